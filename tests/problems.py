"""Problem documents, as the native API answers failures."""

from __future__ import annotations

from typing import Any

import httpx2


def check_problem(
    answer: httpx2.Response, status: int, code: str, field: str | None = None
) -> dict[str, Any]:
    """The answer is a problem document of this kind, complete on both sides of its contract."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == answer.headers["request-id"]
    assert problem.get("field") == field, problem
    return problem
