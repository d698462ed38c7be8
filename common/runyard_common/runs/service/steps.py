"""What an attempt writes while it runs: journal entries with their events, and events alone. All fenced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runyard_common.database.group_commit import locks_tasks
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import events, journal
from runyard_common.runs.queries.journal import StepEnd
from runyard_common.runs.queries.transitions import lock, owns
from runyard_common.runs.rules.journal import JournalEntry, Step
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.values.errors import RunyardError, StaleFence

Entry = tuple[str, dict[str, Any]]  # event type, data
_LONGEST_NAME = 200  # characters of a step's name


@dataclass(frozen=True, slots=True)
class Begin:
    """A step that must be on record before it runs, because it may not run twice."""

    task_id: str
    fence: Fence
    step: Step
    again: bool = False  # the entry exists from an earlier attempt and begins again


@dataclass(frozen=True, slots=True)
class End:
    """A step's result. `begun`: a `Begin` was written; otherwise the entry is inserted whole."""

    task_id: str
    fence: Fence
    step: Step
    value: Any
    state: str = "done"
    begun: bool = False
    events: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Emit:
    """Events an agent reports."""

    task_id: str
    fence: Fence
    events: tuple[Entry, ...] = field(default=())


@locks_tasks
def begin(tx: Tx, commands: Sequence[Begin]) -> list[RunyardError | None]:
    """Write intents, so that a crash shows them open."""
    _, answers = _fenced(tx, commands)
    owned = [c for c, refused in zip(commands, answers, strict=True) if refused is None]
    for c in owned:
        if c.again:
            journal.reopen(tx, c.task_id, c.step.key, c.fence.attempt)
    journal.insert_new(tx, [_entry(c, "begun") for c in owned if not c.again])
    return answers


@locks_tasks
def end(tx: Tx, commands: Sequence[End]) -> list[RunyardError | None]:
    """Write results with their events."""
    heads, answers = _fenced(tx, commands)
    owned = [c for c, refused in zip(commands, answers, strict=True) if refused is None]
    append(tx, heads, record(tx, owned))
    return answers


def record(tx: Tx, ends: Sequence[End]) -> list[End]:
    """Write results into the journal, of tasks whose rows are locked: those that were not on record.

    One that was had been committed before, and only its answer was lost: its events are in the log.
    """
    begun = [c for c in ends if c.begun]
    known = journal.written(tx, [(c.task_id, c.step.key, c.fence.attempt) for c in begun]) if begun else {}
    open_ = {key for c in begun if known.get(key := (c.task_id, c.step.key), "begun") == "begun"}
    new = open_ | journal.insert_new(tx, [_entry(c, c.state, c.value) for c in ends if not c.begun])
    accepted = [c for c in ends if _pop(new, (c.task_id, c.step.key))]
    journal.end_many(tx, [StepEnd(c.task_id, c.step.key, c.value, c.state) for c in accepted if c.begun])
    return accepted


def append(tx: Tx, heads: dict[str, Head], commands: Sequence[End | Emit]) -> None:
    """Append the commands' events to the logs of locked tasks: `heads`, which is updated."""
    entries = [(c.task_id, type_, data) for c in commands for type_, data in c.events]
    if entries:
        events.append(tx, heads, entries)


def _pop(keys: set[tuple[str, str]], key: tuple[str, str]) -> bool:
    """Whether the key is there; it counts once."""
    there = key in keys
    keys.discard(key)
    return there


@locks_tasks
def emit(tx: Tx, commands: Sequence[Emit]) -> list[RunyardError | None]:
    """Append events to the logs."""
    heads, answers = _fenced(tx, commands)
    append(tx, heads, [c for c, refused in zip(commands, answers, strict=True) if refused is None])
    return answers


def _entry(command: Begin | End, state: str, value: Any = None) -> JournalEntry:
    step = replace(command.step, name=command.step.name[:_LONGEST_NAME], detail=command.step.detail or None)
    return JournalEntry.of(command.task_id, command.fence.attempt, step, state, value)


def _fenced(
    tx: Tx, commands: Sequence[Begin | End | Emit]
) -> tuple[dict[str, Head], list[RunyardError | None]]:
    heads = lock(tx, (c.task_id for c in commands))

    def check(command: Begin | End | Emit) -> RunyardError | None:
        if owns(heads.get(command.task_id), command.fence):
            return None
        return StaleFence(task_id=command.task_id, attempt=command.fence.attempt)

    return heads, [check(command) for command in commands]
