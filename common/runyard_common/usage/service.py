"""Model turns: what goes on record when one starts and when it ends, each in one transaction.

So a crash can neither lose a user's message nor show it to the model twice, and the conversation's lines are kept
with the turn that made them, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import journal
from runyard_common.runs.queries.transitions import lock, owns
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.runs.service import steps
from runyard_common.sessions.queries import messages
from runyard_common.sessions.rules import Line
from runyard_common.usage import queries as usage
from runyard_common.usage.queries import Spend
from runyard_common.values.errors import RunyardError, StaleFence

#: The journal key under which a task's opening line is on record.
OPENING = "opening"


@dataclass(frozen=True, slots=True)
class StartTurn:
    """An attempt is about to ask its model. Messages are journaled under `key` at `pos`.

    `opening` is the conversation's first line, to be kept unless it is on record.
    """

    task_id: str
    fence: Fence
    key: str
    pos: int
    read_messages: bool = True
    opening: Line | None = None


@dataclass(frozen=True, slots=True)
class TurnStart:
    """The messages read, oldest first, and what the task has spent."""

    messages: list[Any]
    spend: Spend


@dataclass(frozen=True, slots=True)
class EndTurn:
    """A model's answer: its journal entry, and the conversation lines it adds."""

    entry: steps.End
    lines: tuple[Line, ...] = ()


def start_turn(tx: Tx, commands: Sequence[StartTurn]) -> list[TurnStart | RunyardError]:
    """Answer each command; `StaleFence` for an attempt that is over."""
    heads = lock(tx, (c.task_id for c in commands))
    ids = list(heads)
    known = journal.written(
        tx, [(c.task_id, key, c.fence.attempt) for c in commands for key in (OPENING, c.key)]
    )
    spends = usage.spends(tx, ids)
    unread = usage.with_unread_messages(tx, ids)
    answers: list[TurnStart | RunyardError] = []
    for c in commands:
        head = heads.get(c.task_id)
        if head is None or not owns(head, c.fence):
            answers.append(StaleFence(task_id=c.task_id, attempt=c.fence.attempt))
            continue
        if c.opening is not None and (c.task_id, OPENING) not in known:
            _open(tx, head, c)
        found = _read_before(tx, c) if (c.task_id, c.key) in known else []
        found += _read_unread(tx, c) if c.read_messages and c.task_id in unread and not found else []
        answers.append(TurnStart(found, spends[c.task_id]))
    return answers


def end_turn(tx: Tx, commands: Sequence[EndTurn]) -> list[RunyardError | None]:
    """Write each turn with its events, usage and lines; `StaleFence` for an attempt that is over."""
    known = journal.written(
        tx, [(c.entry.task_id, c.entry.step.key, c.entry.fence.attempt) for c in commands]
    )
    answers = steps.end(tx, [c.entry for c in commands])
    kept = [
        c
        for c, refused in zip(commands, answers, strict=True)
        if refused is None and c.lines and (c.entry.task_id, c.entry.step.key) not in known
    ]
    if kept:
        heads = lock(tx, (c.entry.task_id for c in kept))
        messages.append_lines(tx, [(heads[c.entry.task_id], c.lines) for c in kept])
    return answers


def _open(tx: Tx, head: Head, c: StartTurn) -> None:
    _journal(tx, c, OPENING, c.pos, None)
    assert c.opening is not None
    messages.append_lines(tx, [(head, (c.opening,))])


def _read_unread(tx: Tx, c: StartTurn) -> list[Any]:
    found = messages.read_unread(tx, c.task_id)
    events = tuple(("user_message", {"content": one}) for one in found)
    _journal(tx, c, c.key, c.pos, {"said": found}, events)
    return found


def _read_before(tx: Tx, c: StartTurn) -> list[Any]:
    """What this command read before, when only the answer to its commit was lost."""
    entries = journal.load(tx.conn, [c.task_id]).get(c.task_id, [])
    return next((list(entry.value["said"]) for entry in entries if entry.key == c.key), [])


def _journal(
    tx: Tx, c: StartTurn, key: str, pos: int, value: Any, events: tuple[steps.Entry, ...] = ()
) -> None:
    step = Step(key, "value", "messages", "read", pos=pos)
    entry = steps.End(c.task_id, c.fence, step, value, events=events)
    refused = steps.end(tx, [entry])[0]
    if refused is not None:
        raise refused
