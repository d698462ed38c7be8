"""A task's log as the contract's run logs (section 9): one numbered fact may be several entries. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from runyard_api.surfaces.appstrate.front import when
from runyard_api.surfaces.appstrate.runs.views import result_of, status_of
from runyard_api.surfaces.appstrate.surface import run_id
from runyard_common.database.pages import Page
from runyard_common.runs.rules.lifecycle import TERMINAL, Event
from runyard_common.runs.rules.tasks import Task
from runyard_common.values.logged_event import LoggedEvent

#: Entries of one fact: a log id is the fact's number times this, and which of its entries it is.
_ENTRIES: Final = 10
_LEVELS: Final = {"debug": "debug", "info": "info", "warning": "warn", "warn": "warn", "error": "error"}
_LIFECYCLE: Final = frozenset(event.value for event in Event)
_ENDING: Final = frozenset(status.value for status in TERMINAL)
_INTERNAL: Final = frozenset({"worker", "lease_owner"})
_TEXTS: Final = ("message", "text", "name", "tool", "step", "reason")
#: In place of data that is left out.
OMITTED: Final = {"truncated": True}
Entry = tuple[str, str, str, str | None, Any]  # type, level, event, message, data


def logs(task: Task, events: list[LoggedEvent], debug: bool) -> list[dict[str, Any]]:
    """The entries of these facts, by id ascending; `debug` ones only where asked for."""
    return [entry for event in events for entry in entries(task, event) if debug or entry["level"] != "debug"]


def noted(task: Task, events: Page[LoggedEvent]) -> list[LoggedEvent]:
    """These facts, with a note where the data of one was left out because the log is large."""
    if not events.more:
        return list(events)
    ended = {"status": task.status.value} if task.status in TERMINAL else {}
    return [
        event
        if event["data"] is not None
        else {**event, "data": OMITTED | (ended if event["seq"] == task.last_seq else {})}
        for event in events
    ]


def entries(task: Task, event: LoggedEvent) -> Iterator[dict[str, Any]]:
    """What one fact is in the contract's words. `task` is as it is after it."""
    data = event["data"] if isinstance(event["data"], dict) else {"value": event["data"]}
    data = {name: value for name, value in data.items() if name not in _INTERNAL}
    for place, (type_, level, name, message, content) in enumerate(_contents(task, event["type"], data)):
        yield {
            "id": event["seq"] * _ENTRIES + place,
            "runId": run_id(task.id, task.schedule_id),
            "orgId": task.org_id,
            "type": type_,
            "level": level,
            "event": name,
            "message": message,
            "data": content,
            "createdAt": when(event["at"]),
        }


def _contents(task: Task, type_: str, data: dict[str, Any]) -> Iterator[Entry]:
    if type_ in _LIFECYCLE and data.get("status") in _ENDING:
        yield from _ending(task)
    elif type_ in _LIFECYCLE:
        yield "system", "debug", type_, None, data
    elif type_ == "output_invalid":
        yield "system", "warn", "output_validation", "The output does not fit its schema.", data
    elif type_ == "log":
        yield "progress", _LEVELS.get(str(data.get("level")), "info"), "progress", _text_of(data), data
    else:
        level = "info" if type_ in ("progress", "message", "tool_call", "handoff", "custom") else "debug"
        yield "progress", level, "progress", _text_of(data) or type_, {"event": type_} | data


def _ending(task: Task) -> Iterator[Entry]:
    status, result = status_of(task), result_of(task)
    if status in ("failed", "timeout"):
        error = task.error or {}
        yield "system", "error", "adapter_error", error.get("message"), error
    if result is not None:
        if "output" in result:
            yield "result", "info", "output", None, result["output"]
        if "report" in result:
            yield "result", "info", "report", None, {"content": result["report"]}
        yield "result", "info", "result", None, result
    level = "info" if status == "success" else "warn"
    yield "system", level, "run_completed", f"The run ended: {status}.", {"status": status}


def _text_of(data: Mapping[str, Any]) -> str | None:
    return next((str(data[name]) for name in _TEXTS if data.get(name)), None)
