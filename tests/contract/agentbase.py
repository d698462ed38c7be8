"""What the suites of the agentbase contract share."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.contract.frames import Frames


def session_of(frames: Frames) -> str:
    return str(frames.events[0]["session"])


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The error body."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["code"] == code
    return body
