"""Model turns: what goes on record when one starts and when it ends, each in one transaction.

So a crash can neither lose a user's message nor show it to the model twice, and the conversation's lines are kept
with the turn that made them, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard_common.database.group_commit import locks_tasks
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import events, journal
from runyard_common.runs.queries.events import Numbered
from runyard_common.runs.queries.transitions import owns
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.runs.service import steps
from runyard_common.sessions.queries import messages
from runyard_common.sessions.rules import Line
from runyard_common.usage import queries as usage
from runyard_common.usage.queries import Counted, ModelTurn, Spend, TaskBeforeTurn
from runyard_common.values.errors import RunyardError, StaleFence

#: The journal key under which a task's opening line is on record.
OPENING = "opening"


@dataclass(frozen=True, slots=True)
class StartTurn:
    """An attempt is about to ask its model. Messages are journaled under `key` at `pos`.

    `opening` is the conversation's first line, to be kept unless it is on record. `results` are of calls of the turn
    before.
    """

    task_id: str
    fence: Fence
    key: str
    pos: int
    read_messages: bool = True
    opening: Line | None = None
    results: tuple[steps.End, ...] = ()


@dataclass(frozen=True, slots=True)
class TurnStart:
    """The messages read, oldest first, and what the task has spent."""

    messages: list[Any]
    spend: Spend


@dataclass(frozen=True, slots=True)
class EndTurn:
    """A model's answer: its journal entry, what it used, and the conversation lines it adds.

    `more`: the further turns of an entry that holds several.
    """

    entry: steps.End
    turn: ModelTurn
    lines: tuple[Line, ...] = ()
    more: tuple[ModelTurn, ...] = ()

    @property
    def task_id(self) -> str:
        """The run's."""
        return self.entry.task_id


@locks_tasks
def start_turn(tx: Tx, commands: Sequence[StartTurn]) -> list[TurnStart | RunyardError]:
    """Answer each command; `StaleFence` for an attempt that is over."""
    heads = _write_first(tx, [c for c in commands if c.results or c.opening is not None])
    # After the locks: on PostgreSQL a statement does not see what was committed while it waited for one.
    found = usage.before_turns(tx, {c.task_id for c in commands}, {c.key for c in commands})
    return [_start(tx, c, found.get(c.task_id), heads) for c in commands]


@locks_tasks
def end_turn(tx: Tx, commands: Sequence[EndTurn]) -> list[RunyardError | None]:
    """Write each turn with its events, usage and lines; `StaleFence` for an attempt that is over."""
    heads, totals = usage.lock(tx, (c.entry.task_id for c in commands))
    answers = [_stale(c.entry, heads) for c in commands]
    owned = [c for c, refused in zip(commands, answers, strict=True) if refused is None]
    by_key = {(c.entry.task_id, c.entry.step.key): c for c in owned}
    new = [by_key[end.task_id, end.step.key] for end in steps.record(tx, [c.entry for c in owned])]
    numbered: list[Numbered] = []
    counted: list[Counted] = []
    for c in new:
        id_ = c.entry.task_id
        numbered += events.number(heads, [(id_, type_, data) for type_, data in c.entry.events])
        counted.append(Counted(heads[id_], c.entry.step.key, c.turn))
        keys = (f"{c.entry.step.key}+{number}" for number in range(2, len(c.more) + 2))
        counted += [Counted(heads[id_], key, turn) for key, turn in zip(keys, c.more, strict=True)]
    usage.count(tx, counted, totals)
    events.keep(tx, numbered)
    messages.append_lines(tx, [(heads[c.entry.task_id], c.lines) for c in new])
    return answers


def _stale(command: StartTurn | steps.End, heads: dict[str, Head]) -> RunyardError | None:
    if owns(heads.get(command.task_id), command.fence):
        return None
    return StaleFence(task_id=command.task_id, attempt=command.fence.attempt)


def _write_first(tx: Tx, commands: Sequence[StartTurn]) -> dict[str, Head]:
    """Write results and opening lines; the heads of their tasks, which are locked."""
    if not commands:
        return {}
    heads, _ = usage.lock(tx, (c.task_id for c in commands))
    owned = [c for c in commands if _stale(c, heads) is None]
    ends = [end for c in owned for end in c.results]
    ends += [_entry(c, OPENING, None) for c in owned if c.opening is not None]
    new = steps.record(tx, ends)
    steps.append(tx, heads, new)
    opened = {end.task_id for end in new if end.step.key == OPENING}
    lines = [(heads[c.task_id], (c.opening,)) for c in owned if c.task_id in opened and c.opening is not None]
    messages.append_lines(tx, lines)
    return heads


def _start(
    tx: Tx, c: StartTurn, task: TaskBeforeTurn | None, heads: dict[str, Head]
) -> TurnStart | RunyardError:
    """The answer to a command: its messages are those it has read before, where only the answer to its commit was
    lost, or those that are unread."""
    if task is None or task.fence != c.fence:
        return StaleFence(task_id=c.task_id, attempt=c.fence.attempt)
    key = (c.task_id, c.key)
    if task.journaled and key in journal.written(tx, [(*key, c.fence.attempt)]):
        entries = journal.load(tx.conn, [c.task_id])[c.task_id]
        found = next(list(entry.value["said"]) for entry in entries if entry.key == c.key)
        return TurnStart(found, task.spend)
    if not (c.read_messages and task.unread):
        return TurnStart([], task.spend)
    if c.task_id not in heads:
        heads.update(usage.lock(tx, [c.task_id])[0])
    refused = _stale(c, heads)
    return refused or TurnStart(_read_unread(tx, c, heads), task.spend)


def _read_unread(tx: Tx, c: StartTurn, heads: dict[str, Head]) -> list[Any]:
    found = messages.read_unread(tx, c.task_id)
    logged = tuple(("user_message", {"content": one}) for one in found)
    steps.append(tx, heads, steps.record(tx, [_entry(c, c.key, {"said": found}, logged)]))
    return found


def _entry(c: StartTurn, key: str, value: Any, events: tuple[steps.Entry, ...] = ()) -> steps.End:
    step = Step(key, "value", "messages", "read", pos=c.pos)
    return steps.End(c.task_id, c.fence, step, value, events=events)
