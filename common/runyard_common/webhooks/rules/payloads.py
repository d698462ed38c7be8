"""The native bodies of webhooks, and what the bodies of every style share. Pure.

A body is made once, with the change it reports, and sent as it is on every attempt. Links that let a person
answer are placeholders in it: the link's token exists only on the way out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from runyard_common.runs.rules.tasks import Task, outward
from runyard_common.values.json_text import JsonObject

#: Longest body, in bytes: what is larger goes without its large fields, which it names.
MOST_BYTES: Final = 256 * 1024
#: Of what events hold, not for the outside.
_INTERNAL: Final = frozenset({"worker", "lease_owner"})
_PLACEHOLDER: Final = re.compile(r"answer://(evt_[0-9a-f]{32})/([0-9a-f-]{36})")


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One change to report: what it is called, its number in the task's log, when (epoch seconds)."""

    event_id: str
    type: str
    name: str  # the lifecycle's word: claim, finish, …
    seq: int
    at: float
    data: Mapping[str, Any]


def native(task: Task, event: WebhookEvent, mode: str) -> str:
    """The native body: the event, and the task as `GET /tasks/{id}` shows it. `mode` is full or summary."""
    full = mode == "full"
    shown = _task(task, full) | _asked(event)
    logged: JsonObject = {"name": event.name, "seq": event.seq}
    if full:
        data = {k: v for k, v in event.data.items() if k not in _INTERNAL and k != "asked"}
        logged["data"] = data | ({"error": outward(data["error"])} if data.get("error") else {})
    body = {
        "id": event.event_id,
        "type": event.type,
        "timestamp": when(event.at),
        "data": shown,
        "event": logged,
    }
    return bounded(body, ((shown, "output"), (shown, "input"), (logged, "data"), (shown, "error")))


def duration_ms(task: Task) -> int | None:
    """From creation to the end, in milliseconds."""
    return None if task.finished_at is None else round(1000 * (task.finished_at - task.created_at))


def ping(event_id: str, type_: str, endpoint_id: str, now: float) -> JsonObject:
    """The body of a native test delivery, as JSON."""
    return {
        "id": event_id,
        "type": type_,
        "timestamp": when(now),
        "data": {"endpoint_id": endpoint_id, "message": "A test of this endpoint."},
    }


def when(instant: float | None) -> str | None:
    """Epoch seconds as an RFC 3339 date-time in UTC."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def placeholder(event_id: str, question_id: str) -> str:
    """The place in a stored body of a link to answer this question."""
    return f"answer://{event_id}/{question_id}"


def placeholders(body: str, event_id: str) -> list[str]:
    """The ids of the questions that a stored body holds links to."""
    return list(dict.fromkeys(q for event, q in _PLACEHOLDER.findall(body) if event == event_id))


def without_links(body: str, event_id: str) -> str:
    """A stored body with null in the place of its links."""
    for question_id in placeholders(body, event_id):
        body = body.replace(f'"{placeholder(event_id, question_id)}"', "null")
    return body


def asked_of(event: WebhookEvent) -> list[JsonObject]:
    """The questions and reviews a task waits for, each with its link."""
    found = []
    for asked in event.data.get("asked") or ():
        kind = "question" if asked.get("kind", "question") == "question" else "review"
        link = {"answer_url": placeholder(event.event_id, asked["id"])} if asked.get("id") else {}
        found.append({**asked, "kind": kind, **link})
    return found


def _asked(event: WebhookEvent) -> JsonObject:
    found: JsonObject = {}
    for kind in ("question", "review"):
        if of_kind := [asked for asked in asked_of(event) if asked["kind"] == kind]:
            found |= {kind: of_kind[0], f"{kind}s": of_kind}
    return found


def _task(task: Task, full: bool) -> JsonObject:
    shown = {
        "task_id": task.id,
        "agent_id": task.version_id,
        "agent_group_id": task.agent_id,
        "agent": task.agent_name,
        "agent_name": task.agent_name,
        "version": task.version,
        "status": task.status.value,
        "title": task.title,
        "session_id": task.session_id,
        "end_user_id": task.end_user_id,
        "front": task.front,
        "attempt": task.attempt,
        "error": outward(task.final_error),
        "usage": task.usage or {},
        "cost": task.cost_micros / 1_000_000,
        "metadata": task.meta or {},
        "parent_id": task.parent_id,
        "retry_of": task.retry_of,
        "schedule_id": task.schedule_id,
        "created_at": when(task.created_at),
        "updated_at": when(task.updated_at),
        "started_at": when(task.started_at),
        "finished_at": when(task.finished_at),
    }
    return shown | {"input": task.input or {}, "output": task.output} if full else shown


def bounded(body: JsonObject, large: Sequence[tuple[JsonObject, str]], mark: str = "_truncated") -> str:
    """`body` as JSON; of one that is too long, large fields give way in turn to `<field>_truncated` marks."""
    text = dump(body)
    for holder, name in large:
        if len(text) <= MOST_BYTES:
            break
        if name in holder:
            del holder[name]
            holder[f"{name}{mark}"] = True
            text = dump(body)
    return text.decode()


def dump(body: Any) -> bytes:
    """`body` as JSON; what is no JSON becomes text."""
    return orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)
