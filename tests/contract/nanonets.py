"""What the suites of the nanonets contract share."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import httpx2

V1 = "/api/v1"


STATUSES = {
    "pending", "queued", "running", "waiting_for_input", "awaiting_review", "completed", "failed", "stopped",
}  # fmt: skip


def refused(answer: httpx2.Response, status: int) -> str:
    """The text of an error."""
    assert answer.status_code == status, answer.text
    text = answer.json()["error"]
    assert isinstance(text, str)
    assert text
    return text


def is_uuid(text: str) -> bool:
    return str(uuid.UUID(text)) == text


def moment(text: str) -> datetime:
    """A date-time of the contract: RFC 3339, UTC, with a Z."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def id_of(client: httpx2.Client, name: str) -> str:
    """An agent's id, by its name."""
    return str(client.get(f"{V1}/agents/{name}").json()["id"])


def run(client: httpx2.Client, name: str, query: str = "hi", **more: Any) -> dict[str, Any]:
    """The answer to a run."""
    answer = client.post(f"{V1}/agents/{id_of(client, name)}/run", json={"query": query} | more)
    assert answer.is_success, answer.text
    body: dict[str, Any] = answer.json()
    return body


def create(client: httpx2.Client, **fields: Any) -> dict[str, Any]:
    """A new agent."""
    answer = client.post(f"{V1}/agents", json=fields)
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()
    return made
