"""Runs and their logs as the contract shows them (section 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runyard_api.surfaces.appstrate.front import when
from runyard_api.surfaces.appstrate.surface import CALLED, OUT_OF_TIME, SCHEDULED, as_result, input_of, run_id
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.values.ids import is_uuid
from runyard_common.webhooks.rules.payloads import duration_ms

_ENDED: Final = {Status.COMPLETED: "success", Status.STOPPED: "cancelled"}
#: Fields of a run in an update of it.
_UPDATED: Final = (
    "id", "packageId", "status", "userId", "orgId", "scheduleId", "error", "startedAt", "completedAt", "duration",
    "tokensUsed",
)  # fmt: skip
_COUNTED: Final = ("input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class RunExtras:
    """What other tables have: numbers per agent by task id, applications by key id."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    applications: Mapping[str, str | None] = field(default_factory=dict)


def task_id_of(text: str) -> str | None:
    """The task a run id names, whichever way it is written; None for what is no id."""
    bare = text.removeprefix(CALLED).removeprefix(SCHEDULED)
    return bare.lower() if is_uuid(bare) else None


def status_of(task: Task) -> str:
    """The contract's status. What waits for a person, or was begun and goes on later, counts as running."""
    if task.status is Status.FAILED:
        return "timeout" if (task.error or {}).get("code") in OUT_OF_TIME else "failed"
    if task.status in _ENDED:
        return _ENDED[task.status]
    begun = task.started_at is not None or task.status not in (Status.PENDING, Status.QUEUED)
    return "running" if begun else "pending"


def error_text(task: Task) -> str | None:
    """Why an ended run has no result."""
    if task.final_error:
        return str(task.final_error.get("message") or task.final_error.get("code"))
    return None


def result_of(task: Task) -> dict[str, Any] | None:
    """``{"output": object?, "report": text?}`` of a success: a text is a report, any other value an output."""
    if task.status is not Status.COMPLETED:
        return None
    return as_result(task.output)


def tokens_of(usage: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Token counters; None where no model was asked."""
    counted = {name: int((usage or {}).get(name) or 0) for name in _COUNTED}
    if not any(counted.values()):
        return None
    return counted | {"cache_read_input_tokens": int((usage or {}).get("cached_tokens") or 0)}


def run_json(task: Task, extras: RunExtras) -> dict[str, Any]:
    """A run, whole; unset values are null."""
    tokens = tokens_of(task.usage)
    own = (task.meta or {}).get("appstrate") or {}
    return {
        "id": run_id(task.id, task.schedule_id),
        "packageId": task.agent_name,
        "userId": user_of(task),
        "endUserId": task.end_user_id,
        "applicationId": extras.applications.get(task.key_id or ""),
        "orgId": task.org_id,
        "status": status_of(task),
        "input": input_of(task),
        "result": result_of(task),
        "state": None,
        "error": error_text(task),
        "tokensUsed": sum(tokens[name] for name in _COUNTED) if tokens else None,
        "tokenUsage": tokens,
        "startedAt": when(task.created_at),
        "completedAt": when(task.finished_at),
        "duration": duration_ms(task),
        "connectionProfileId": own.get("connectionProfileId"),
        "scheduleId": schedule_id(task.schedule_id) if task.schedule_id else None,
        "packageVersionId": task.version_id,
        "packageVersion": task.version,
        "proxyLabel": None,
        "modelLabel": task.model,
        "modelSource": "system" if task.model else None,
        "cost": task.cost_micros / 1_000_000,
        "runNumber": extras.numbers.get(task.id),
        "notifiedAt": None,
        "readAt": None,
        "metadata": {name: value for name, value in (task.meta or {}).items() if name != "appstrate"} or None,
    }


def user_of(task: Task) -> str | None:
    """Who started it: the user, or the key that called; None where an end-user is named."""
    if task.end_user_id is not None or task.created_by is None:
        return None
    return task.created_by.partition(":")[2] or task.created_by


def schedule_id(id_: str) -> str:
    """The id a schedule has here."""
    return f"sched_{id_}"


def update_json(task: Task, operation: str) -> dict[str, Any]:
    """A `run_update` frame (section 10)."""
    run = run_json(task, RunExtras())
    return {"operation": operation} | {name: run[name] for name in _UPDATED}
