"""Sleeping, and waiting for events from outside: journaled, and without a worker unless it is for a moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from runyard.errors import AgentError, EventTimeout
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.waits import Group
from runyard_common.runs.service import waits
from runyard_workers.agent_code import values
from runyard_workers.attempts.attempt import Attempt

#: A sleep that is shorter, in seconds, stays in the worker: leaving it and coming back takes about as long.
SHORT: Final = 1.0
_LONGEST_KEY: Final = 250  # characters


async def sleep(attempt: Attempt, seconds: Any, until: Any, group: Group) -> Group | None:
    """Sleep, or what the run has to wait for. Raises `AgentError` invalid_call."""
    length, at = _span(seconds, until)
    await attempt.ready()
    key = attempt.replay.key("sleep")
    if await attempt.recall(key, "sleep") is not None:
        return None
    begun = attempt.replay.entry(key)
    if begun is None:
        attempt.refuse_drained()
        ends = attempt.now() + (length or 0.0) if at is None else at
        await attempt.begin(Step(key, "sleep", "sleep", "read", attempt.concurrently({"until": ends})))
    else:
        ends = begun.detail["until"]
    left = ends - attempt.now()
    if left > SHORT:
        return _with(group, until=ends)
    if left > 0:
        with attempt.siblings.outside(), attempt.under_way(key):
            await asyncio.sleep(left)
    await attempt.end(Step(key, "sleep", "sleep", "read", {"until": ends}), None)
    return None


def _span(seconds: Any, until: Any) -> tuple[float | None, float | None]:
    """Seconds, or a moment in epoch seconds."""
    if (seconds is None) == (until is None):
        raise AgentError("ctx.sleep: give seconds, or until.", code="invalid_call", call="ctx.sleep")
    if until is None:
        return (
            0.0
            if seconds == 0 and not isinstance(seconds, bool)
            else values.seconds(seconds, "ctx.sleep", "seconds")
        ), None
    if not isinstance(until, datetime):
        raise AgentError(
            f"ctx.sleep: until must be a datetime, not {type(until).__name__}.",
            code="invalid_call",
            call="ctx.sleep",
        )
    try:
        moment = (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError, OSError):
        moment = float("inf")
    if moment - datetime.now(UTC).timestamp() > values.LONGEST_WAIT:
        raise AgentError(
            "ctx.sleep: until is more than ten years away.", code="invalid_call", call="ctx.sleep"
        )
    return None, moment


async def event(
    attempt: Attempt, name: Any, key: Any, timeout: Any, default: Any, group: Group
) -> tuple[Any, Group | None]:
    """The data of an event, or what the run has to wait for. Raises `EventTimeout`; `AgentError` invalid_call."""
    name = values.name(name, "ctx.wait_for_event")
    call = f"ctx.wait_for_event {values.shown(name)}"
    address = _address(name, key, call)
    wait = values.seconds(timeout, call, "timeout")
    if default is not ...:
        default = values.event(default, f"{call}, default", attempt.bounds)
    await attempt.ready()
    journal_key = attempt.replay.key(f"event:{name}")
    entry = await attempt.recall(journal_key, "event")
    if entry is not None:
        return _received(entry.value, call, default), None
    begun = attempt.replay.entry(journal_key)
    if begun is None:
        attempt.refuse_drained()
        deadline = None if wait is None else attempt.now() + wait
        detail = attempt.concurrently({"name": name, "key": key, "until": deadline})
        step = attempt.placed(Step(journal_key, "event", name, "read", detail))
        command = waits.Expect(attempt.task.id, attempt.fence, step, name, address, deadline)
        found = await attempt.write(waits.expect, command)
        attempt.replay.remember(step, "begun" if found is None else "done", found)
        if found is not None:
            return _received(found, call, default), None
    else:
        step, deadline = Step(journal_key, "event", name, "read", begun.detail), begun.detail.get("until")
        if deadline is not None and deadline <= attempt.now():
            found = await attempt.write(waits.give_up, waits.GiveUp(attempt.task.id, attempt.fence, step))
            attempt.replay.remember(step, "done", found)
            return _received(found, call, default), None
    return None, _with(group, events=(journal_key,))


def _address(name: str, key: Any, call: str) -> str:
    if len(name) > 100:
        raise AgentError(f"{call}: the name is longer than 100 characters.", code="invalid_call", call=call)
    if key is None:
        return ""
    key = values.name(key, call, "the key")
    if len(key) > _LONGEST_KEY:
        raise AgentError(
            f"{call}: the key is longer than {_LONGEST_KEY} characters.", code="invalid_call", call=call
        )
    return f"key:{key}"


def _received(value: Any, call: str, default: Any) -> Any:
    if value != waits.NO_EVENT:
        return value["data"]
    if default is ...:
        raise EventTimeout(f"{call}: no event came in time.", call=call)
    return default


def _with(group: Group, until: float | None = None, events: tuple[str, ...] = ()) -> Group:
    return Group(events=events, until=until, name=group.name, urgent=group.urgent)
