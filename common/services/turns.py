"""The start of a model turn: what users said meanwhile is taken in and journaled, and the money is looked at.

One transaction, so that a crash can neither lose a message nor show it to the model twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.domain.errors import RunyardError, StaleFence
from common.domain.lifecycle import Status
from common.services import steps
from common.store import messages, turns
from common.store.transaction import Tx
from common.store.transitions import lock
from common.store.turns import Standing


@dataclass(frozen=True, slots=True)
class StartTurn:
    """An attempt is about to ask its model. Messages are journaled under `key` at `pos`."""

    task_id: str
    attempt: int
    key: str
    pos: int
    take_mail: bool = True


@dataclass(frozen=True, slots=True)
class TurnStart:
    """The messages taken in, oldest first, and how the task stands."""

    said: list[Any]
    standing: Standing


def start_turn(tx: Tx, commands: Sequence[StartTurn]) -> list[TurnStart | RunyardError]:
    """Answer each command; `StaleFence` for an attempt that is over."""
    heads = lock(tx, (c.task_id for c in commands))
    ids = list(heads)
    standings = turns.standings(tx, ids)
    mail = turns.with_mail(tx, ids)
    answers: list[TurnStart | RunyardError] = []
    for c in commands:
        head = heads.get(c.task_id)
        if head is None or head.status is not Status.RUNNING or head.attempt != c.attempt:
            answers.append(StaleFence(task_id=c.task_id, attempt=c.attempt))
            continue
        said = _take(tx, c) if c.take_mail and c.task_id in mail else []
        answers.append(TurnStart(said, standings[c.task_id]))
    return answers


def _take(tx: Tx, c: StartTurn) -> list[Any]:
    said = messages.take_unread(tx, c.task_id)
    events = tuple(("user_message", {"content": one}) for one in said)
    entry = steps.End(
        c.task_id, c.attempt, c.key, c.pos, "value", "messages", "read", {"said": said}, events=events
    )
    refused = steps.end(tx, [entry])[0]
    if refused is not None:
        raise refused
    return said
