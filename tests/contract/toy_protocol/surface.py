"""What every process needs of the contract: its webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.surfaces import ApiSurface, WebhookStyle
from runyard_common.webhooks.rules.delivery import RetrySchedule
from runyard_common.webhooks.rules.payloads import WebhookEvent


def type_of(_event: Event, status: Status, _attempt: int, _error: Mapping[str, Any] | None) -> str | None:
    """Ends alone are reported."""
    return {Status.COMPLETED: "toy.answered", Status.FAILED: "toy.broke"}.get(status)


def render(task: Task, event: WebhookEvent, _mode: str) -> str:
    """The body of a webhook."""
    return orjson.dumps({"toy": event.type, "ticket": task.id, "answer": task.output}).decode()


def ping(event_id: str, type_: str, _endpoint_id: str, _now: float) -> dict[str, Any]:
    """The body of a test."""
    return {"toy": type_, "event": event_id}


SURFACE: Final = ApiSurface(
    "toy",
    __package__,
    ("routes",),
    webhooks=WebhookStyle(
        ("toy.answered", "toy.broke"), type_of, render, ping, RetrySchedule((0.1,), 0.0, frozenset(), 1.0)
    ),
)
