"""What the suites of the nugen contract share."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.contract.live import MODEL, unique

AGENTS = "/api/v3/agents"


AGENT_FIELDS = {
    "id", "name", "description", "base_model", "base_model_name", "created_date", "status", "creator", "endpoint",
    "usage_count", "last_used", "performance_metrics", "system_prompt", "temperature", "conversation_saving_enabled",
}  # fmt: skip


def create(client: httpx2.Client, name: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {
        "agent_name": name or unique("made agent"),
        "agent_description": "Helps.",
        "model": MODEL,
    } | fields
    answer = client.post(f"{AGENTS}/create", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


def run(client: httpx2.Client, name: str, message: str, session: str | None = None) -> httpx2.Response:
    headers = {"x-session-id": session} if session is not None else {}
    return client.post(f"{AGENTS}/run-agents/{name}/run", json={"message": message}, headers=headers)


def detail(answer: httpx2.Response, status: int, code: str | None = None) -> str:
    """The text of an error."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert code in (None, body["code"])
    return str(body["detail"])


def defect(answer: httpx2.Response) -> dict[str, Any]:
    """The only defect of a 422."""
    assert answer.status_code == 422, answer.text
    [found] = answer.json()["detail"]
    assert found.keys() == {"loc", "msg", "type"}
    return dict(found)
