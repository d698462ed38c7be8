"""What every process needs of the contract: its webhooks (section 12), and what it lets pass or refuses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runyard_api.surfaces.appstrate.runs import readiness
from runyard_common.runs.rules.lifecycle import TERMINAL, Event, Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.surfaces import ApiSurface, WebhookStyle
from runyard_common.webhooks.rules.delivery import DAY, HOUR, MINUTE, RetrySchedule
from runyard_common.webhooks.rules.payloads import WebhookEvent, bounded, duration_ms

#: The API version this server speaks, the only one (section 8).
API_VERSION: Final = "2026-03-21"
CALLED: Final = "exec_"
SCHEDULED: Final = "run_"
EVENTS: Final = ("run.started", "run.completed", "run.failed", "run.timeout", "run.cancelled")
#: Fixed gaps, eight attempts.
RETRIES: Final = RetrySchedule(
    gaps=(30, 5 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR),
    jitter=0.0,
    retried=frozenset({408, 429}),
    longest_wait=DAY,
)
OUT_OF_TIME: Final = frozenset({"timeout", "deadline_exceeded"})


def type_of(event: Event, status: Status, attempt: int, error: Mapping[str, Any] | None) -> str | None:
    """What the contract calls a change of state; None where it has no name for it."""
    if event is Event.CLAIM:
        return "run.started" if attempt == 1 else None
    if status is Status.COMPLETED:
        return "run.completed"
    if status is Status.STOPPED:
        return "run.cancelled"
    if status is Status.FAILED:
        return "run.timeout" if (error or {}).get("code") in OUT_OF_TIME else "run.failed"
    return None


def render(task: Task, event: WebhookEvent, mode: str) -> str:
    """The body of a webhook: `status` is the event's suffix."""
    run: dict[str, Any] = {
        "object": "run",
        "id": run_id(task.id, task.schedule_id),
        "packageId": task.agent_name,
        "status": event.type.partition(".")[2],
    }
    if mode == "full":
        run["input"] = input_of(task)
    if task.status in TERMINAL:
        if mode == "full" and event.type == "run.completed":
            run["result"] = as_result(task.output)
        run["duration"] = duration_ms(task)
        if task.final_error:
            run["error"] = task.final_error.get("message")
    body = _event(event.event_id, event.type, event.at, run)
    return bounded(body, ((run, "result"), (run, "input"), (run, "error")), "Truncated")


def ping(event_id: str, type_: str, endpoint_id: str, now: float) -> dict[str, Any]:
    """The body of a test delivery, as JSON."""
    return _event(event_id, type_, now, {"object": "webhook", "id": endpoint_id, "status": "ping"})


def _event(event_id: str, type_: str, at: float, obj: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": event_id,
        "object": "event",
        "type": type_,
        "apiVersion": API_VERSION,
        "created": int(at),
        "data": {"object": obj},
    }


def run_id(task_id: str, schedule_id: str | None = None) -> str:
    """A run's id: ``exec_<uuid>``, ``run_<uuid>`` when a schedule made it."""
    return (SCHEDULED if schedule_id else CALLED) + task_id


def as_result(output: Any) -> dict[str, Any]:
    """An output as `result`: objects under `output`, text under `report`."""
    if output is None:
        return {}
    if isinstance(output, str):
        return {"report": output}
    return {"output": output if isinstance(output, dict) else {"result": output}}


def input_of(task: Task) -> Any:
    """The run's input as its client gave it."""
    given = task.input or {}
    if given.get("args") is not None:
        return given["args"]
    return {"message": given["message"]} if given.get("message") is not None else {}


SURFACE: Final = ApiSurface(
    "appstrate",
    __package__,
    (
        "runs.start", "runs.runs", "runs.realtime", "schedules", "webhooks", "applications.end_users",
        "applications.applications", "applications.keys", "packages.packages", "packages.versions",
        "system",
    ),
    order=40,
    webhooks=WebhookStyle(EVENTS, type_of, render, ping, RETRIES),
    lenient_output=True,
    check_due=readiness.check,
)  # fmt: skip
