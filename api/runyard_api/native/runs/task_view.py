"""Tasks and their events as the native API shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from runyard_api.access.auth import Principal, input_for
from runyard_api.http.paths import under
from runyard_api.native.front import BASE, when
from runyard_api.task_snapshot import TaskSnapshot
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.rules.lifecycle import TERMINAL, Event, Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service.queues import WORKER
from runyard_common.values.logged_event import LoggedEvent

_HINTS: Final = {
    Status.PENDING: "Task created successfully. Use GET /v1/tasks/{task_id} to check status.",
    Status.QUEUED: "Not started yet: GET /v1/tasks/{task_id} names in `queue` what it waits for.",
    Status.RUNNING: "The agent is at work.",
    Status.WAITING_FOR_INPUT: "The agent asks. Answer with POST /v1/tasks/{task_id}/message.",
    Status.AWAITING_REVIEW: "A step waits for a decision. Decide with POST /v1/tasks/{task_id}/review.",
    Status.COMPLETED: "Finished.",
    Status.FAILED: "Failed; see error.",
    Status.STOPPED: "Stopped.",
}
_SLOWEST_POLL: Final = 30_000
#: Characters of an input that a list shows.
_PREVIEW: Final = 160
#: What events may hold for the workers' use, but callers are not shown.
_INTERNAL: Final = frozenset({"worker", "lease_owner"})


def hint(status: Status, task_id: str) -> str:
    """What a status means to the caller, in a sentence."""
    return _HINTS[status].replace("{task_id}", task_id)


def brief(task: Task) -> dict[str, Any]:
    """The fields every mention of a task has (nanonets' task)."""
    return {
        "task_id": task.id,
        "agent_id": task.version_id,
        "agent_group_id": task.agent_id,
        "agent": task.agent_name,
        "agent_name": task.agent_name,
        "version": task.version,
        "status": task.status.value,
        "title": task.title,
        "session_id": task.session_id,
        "front": task.front,
        "created_at": when(task.created_at),
        "updated_at": when(task.updated_at),
    }


def listed(task: Task, given: Any = None, retried_as: str | None = None) -> dict[str, Any]:
    """A task in the list of tasks; `given` is its input, of one without a title, `retried_as` the task that repeats
    it."""
    return brief(task) | {
        "preview": None if given is None else _preview(given),
        "attempt": task.attempt,
        "usage": task.usage or {},
        "cost": task.cost_micros / 1_000_000,
        "parent_id": task.parent_id,
        "end_user_id": task.end_user_id,
        "created_by": task.created_by,
        "error_code": (task.final_error or {}).get("code"),
        "retried_as": retried_as,
        "started_at": when(task.started_at),
        "finished_at": when(task.finished_at),
    }


def _preview(given: Any) -> str | None:
    """The start of an input: of its message, else of its arguments."""
    if not isinstance(given, dict):
        return None
    shown = given.get("message") or given.get("args")
    if shown is None or shown in ({}, []):
        return None
    text = shown if isinstance(shown, str) else orjson.dumps(shown).decode()
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "…"


def whole(seen: TaskSnapshot, who: Principal) -> dict[str, Any]:
    """The task of DESIGN §7, as `who` may see it."""
    task = seen.task
    found = brief(task) | {
        "message": _message(seen),
        "end_user_id": task.end_user_id,
        "input": input_for(who, task.input or {}),
        "output": task.output,
        "error": task.final_error or None,
        "usage": task.usage or {},
        "cost": task.cost_micros / 1_000_000,
        "attempt": task.attempt,
        "priority": task.priority,
        "metadata": task.meta or {},
        "created_by": task.created_by,
        "parent_id": task.parent_id,
        "retry_of": task.retry_of,
        "retried_as": seen.retried_as,
        "schedule_id": task.schedule_id,
        "deadline": when(task.deadline_at),
        "poll_after_ms": poll_after_ms(seen),
        "started_at": when(task.started_at),
        "finished_at": when(task.finished_at),
        "links": links(task.id),
    }
    if seen.queue_position is not None:
        found["queue"] = queue(seen)
    if task.status is Status.QUEUED and task.error:
        found["last_error"] = task.error
    if task.ending is not None:
        found["ending"] = ending(task.ending)
    return found | waiting(seen)


def ending(kept: Mapping[str, Any]) -> dict[str, Any]:
    """How a run ends, or ended, that undoes what it did first."""
    status = Status.STOPPED if kept["event"] == Event.CANCEL else Status.FAILED
    return {"status": status.value, "error": kept["error"]}


def _message(seen: TaskSnapshot) -> str:
    place = seen.queue_position
    if seen.task.ending is not None and seen.task.status not in TERMINAL:
        return "It undoes what it did; then it ends as `ending` has it."
    if place is not None and place.limit == WORKER:
        return f"It waits: {place.basis}."
    return hint(seen.task.status, seen.task.id)


def queue(seen: TaskSnapshot) -> dict[str, Any] | None:
    """What blocks a queued task, and its position."""
    place = seen.queue_position
    if place is None:
        return None
    return {
        "limit": place.limit,
        "position": place.position,
        "estimate_s": None if place.estimate_s is None else round(place.estimate_s, 3),
        "basis": place.basis,
    } | ({"until": when(place.until)} if place.until is not None else {})


def waiting(seen: TaskSnapshot) -> dict[str, Any]:
    """What a suspended task waits for: the first under `question` or `review`, all of them in lists."""
    found: dict[str, Any] = {}
    for kind in ("question", "review"):
        asked = [question(row) for row in seen.questions if row.kind == kind]
        if asked:
            found |= {kind: asked[0], f"{kind}s": asked}
    return found


def question(row: Question) -> dict[str, Any]:
    """An open question or review; its payload holds what is asked, `cause` why the engine asks for itself:
    `unknown_outcome` (of an irreversible step), `budget` or `balance` (spent)."""
    payload = dict(row.payload or {})
    return payload | {
        "id": row.id,
        "kind": row.kind,
        "cause": payload.get("kind"),
        "task_id": row.task_id,
        "deadline": when(row.deadline_at),
        "on_timeout": row.on_timeout,
        "created_at": when(row.created_at),
    }


def links(task_id: str) -> dict[str, str]:
    base = under(f"{BASE}/tasks/{task_id}")
    return {"self": base} | {name: f"{base}/{name}" for name in _LINKED}


_LINKED: Final = ("events", "result", "summary", "messages", "cancel", "message", "review", "retry")


def poll_after_ms(seen: TaskSnapshot) -> int | None:
    """When it is worth asking again, in milliseconds: later the farther the task is from the front."""
    task = seen.task
    if task.status in TERMINAL:
        return None
    if seen.queue_position is not None:
        place = seen.queue_position
        guess = place.estimate_s * 500 if place.estimate_s is not None else 500 * place.position
        return int(min(max(guess, 1_000), _SLOWEST_POLL))
    if task.status is Status.PENDING:
        return 500
    return 1_000 if task.status is Status.RUNNING else 5_000


def etag(seen: TaskSnapshot) -> str:
    """Changes whenever what a caller would be shown changes in substance."""
    task, place = seen.task, seen.queue_position
    shown = (task.id, task.status.value, task.attempt, task.updated_at, task.title, task.cost_micros, task.usage,
            place and (place.limit, place.position), [q.id for q in seen.questions], seen.retried_as)  # fmt: skip
    return 'W/"' + hashlib.blake2b(repr(shown).encode(), digest_size=12).hexdigest() + '"'


def event_json(event: LoggedEvent) -> dict[str, Any]:
    """A numbered fact in a task's log, from the database or from the live stream."""
    data = event["data"]
    if isinstance(data, dict) and not _INTERNAL.isdisjoint(data):
        data = {name: value for name, value in data.items() if name not in _INTERNAL}
    return {
        "task_id": event["task_id"],
        "seq": event["seq"],
        "type": event["type"],
        "attempt": event["attempt"],
        "at": when(event["at"]),
        "data": data,
    }
