"""Wait: an attempt leaves its worker until children have ended, a time has come, or events came. Fenced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from runyard_common.database import advisory
from runyard_common.database.group_commit import locks_tasks, own_transaction
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import journal, tasks, waits
from runyard_common.runs.queries.transitions import Change, lock, move, owns
from runyard_common.runs.queries.waits import EventWait
from runyard_common.runs.rules.blocked_by import RESUME, Blocker
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import TERMINAL, Event, Status
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.runs.rules.waits import CHILD_PART, EVENT_PART, Group, Verdict, World, judge
from runyard_common.runs.service import steps
from runyard_common.runs.service.attempts import ENDED_WELL, Answers
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.values.errors import RunyardError, StaleFence

#: What the journal has in place of an event that did not come in time.
NO_EVENT: Final = {"timed_out": True}


@dataclass(frozen=True, slots=True)
class Wait:
    """The run waits for one of these groups, and gives its slot back."""

    task_id: str
    fence: Fence
    groups: tuple[Group, ...]


@locks_tasks
def wait(tx: Tx, commands: Sequence[Wait]) -> Answers:
    """running → queued, until what it waits for is there; straight back when it is there already. Not for children."""
    return _wait(tx, commands)


@own_transaction
def wait_for_children(tx: Tx, commands: Sequence[Wait]) -> Answers:
    """The same. Children are locked with their parents, in one order: none of them ends unseen in between."""
    return _wait(tx, commands)


def _wait(tx: Tx, commands: Sequence[Wait]) -> Answers:
    children = {child for c in commands for group in c.groups for child in group.children}
    heads = lock(tx, {*(c.task_id for c in commands), *children})
    world = World(
        tx.now,
        frozenset(id_ for id_ in children if id_ in heads and heads[id_].status not in TERMINAL),
        frozenset(
            id_ for id_ in children if id_ not in heads or heads[id_].status in TERMINAL - {Status.COMPLETED}
        ),
    )
    listening = [c.task_id for c in commands if any(group.events for group in c.groups)]
    events = waits.open_waits(tx.conn, listening) if listening else {}
    verdicts = [
        judge(c.task_id, c.groups, replace(world, open_events=events.get(c.task_id))) for c in commands
    ]
    answers = move(tx, [_change(tx, c, v) for c, v in zip(commands, verdicts, strict=True)], heads)
    kept = [v for a, v in zip(answers, verdicts, strict=True) if isinstance(a, Head) and _has_parts(v)]
    waits.put(tx, [v.missing[0].task_id for v in kept], [part for v in kept for part in v.missing])
    return answers


def _has_parts(verdict: Verdict) -> bool:
    return not verdict.ready and verdict.blocked_by in waits.WITH_PARTS


def _change(tx: Tx, command: Wait, verdict: Verdict) -> Change:
    values: dict[str, Any] = {"resume": 0, "available_at": None, "blocked_by": RESUME} | ENDED_WELL
    if verdict.ready:
        tx.freed.add(RESUME)
    else:
        values |= {"blocked_by": verdict.blocked_by, "available_at": verdict.at}
    return Change(command.task_id, Event.WAIT, command.fence, data=_data(verdict), values=values)


def _data(verdict: Verdict) -> dict[str, Any]:
    """What the log's entry has: `child`, or `for` with how many children, which events' keys, until when."""
    by = None if verdict.ready else verdict.blocked_by
    if by is not None and by.kind is Blocker.CHILD:
        return {"child": by.what}
    data: dict[str, Any] = {"for": "nothing" if by is None else by.label}
    children = sum(part.kind == CHILD_PART for part in verdict.missing)
    events = [part.ref for part in verdict.missing if part.kind == EVENT_PART]
    data |= {"children": children} if children else {}
    data |= {"events": events} if events else {}
    return data | ({"until": verdict.at} if verdict.at is not None else {})


@dataclass(frozen=True, slots=True)
class Expect:
    """An attempt waits for an event from now on, journaled as `step`. `address` is ``key:<key>``, or nothing."""

    task_id: str
    fence: Fence
    step: Step
    name: str
    address: str
    deadline_at: float | None


def locked_as(org_id: str, name: str) -> str:
    """What who waits for an event of this name locks, and who sends one."""
    return f"event|{org_id}|{name}"


@own_transaction
def expect(tx: Tx, commands: Sequence[Expect]) -> list[Any]:
    """The event as the journal has it {id, data} where one came before, else None: its arrival ends that entry."""
    known = tasks.light(tx.conn, [c.task_id for c in commands])
    advisory.lock(tx, [locked_as(known[c.task_id].org_id, c.name) for c in commands if c.task_id in known])
    heads = lock(tx, [c.task_id for c in commands])
    return [_expect(tx, c, heads.get(c.task_id), known[c.task_id].created_at) for c in commands]


def _expect(tx: Tx, command: Expect, head: Head | None, since: float) -> Any:
    if head is None or not owns(head, command.fence):
        return StaleFence(task_id=command.task_id, attempt=command.fence.attempt)
    key = command.step.key
    if waits.get_wait(tx.conn, head.id, key) is not None:  # committed before: only the answer was lost
        return journal.values(tx.conn, head.id, [key]).get(key)
    wait_ = EventWait(
        head.id, key, head.org_id, command.name, command.address, head.session_id, command.deadline_at, tx.now
    )
    event = waits.first_sent(tx, wait_, since)
    if event is None:
        waits.open_wait(tx, wait_)
        return steps.begin(tx, [steps.Begin(head.id, command.fence, command.step)])[0]
    waits.open_wait(tx, replace(wait_, event_id=event.id, closed_at=tx.now))
    value = {"id": event.id, "data": event.data}
    refused = steps.end(tx, [steps.End(head.id, command.fence, command.step, value)])[0]
    return value if refused is None else refused


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The time of a wait for an event is over."""

    task_id: str
    fence: Fence
    step: Step


@locks_tasks
def give_up(tx: Tx, commands: Sequence[GiveUp]) -> list[Any]:
    """What the journal has now: `NO_EVENT`, or the event {id, data} that came at the last moment."""
    heads = lock(tx, [c.task_id for c in commands])
    return [_give_up(tx, c, heads.get(c.task_id)) for c in commands]


def _give_up(tx: Tx, command: GiveUp, head: Head | None) -> dict[str, Any] | RunyardError:
    if not owns(head, command.fence):
        return StaleFence(task_id=command.task_id, attempt=command.fence.attempt)
    key = command.step.key
    open_ = waits.get_wait(tx.conn, command.task_id, key)
    if open_ is not None and open_.closed_at is not None:
        return dict(journal.values(tx.conn, command.task_id, [key])[key])
    waits.close_wait(tx, command.task_id, key, None)
    refused = steps.end(tx, [steps.End(command.task_id, command.fence, command.step, NO_EVENT, begun=True)])[
        0
    ]
    return NO_EVENT if refused is None else refused


@dataclass(frozen=True, slots=True)
class StopChildren:
    """An attempt needs these children of its task no more."""

    task_id: str
    fence: Fence
    child_ids: tuple[str, ...]
    reason: str


@own_transaction
def stop_children(tx: Tx, commands: Sequence[StopChildren]) -> list[RunyardError | None]:
    """Stop unfinished children of the tasks."""
    heads = lock(tx, [c.task_id for c in commands])
    answers: list[RunyardError | None] = []
    for c in commands:
        if not owns(heads.get(c.task_id), c.fence):
            answers.append(StaleFence(task_id=c.task_id, attempt=c.fence.attempt))
            continue
        own = set(tasks.children(tx.conn, [c.task_id]))
        cancel_tasks(tx, [child for child in c.child_ids if child in own], c.reason)
        answers.append(None)
    return answers
