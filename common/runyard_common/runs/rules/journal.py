"""Steps of a run, as its attempts write them and as its journal keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """A recorded unit of work. `key` names it within its task, `pos` orders it, `detail` is what it was called with."""

    key: str
    kind: str  # step, child, value, tool, model
    name: str
    effect: str  # read, idempotent, irreversible
    detail: dict[str, Any] | None = None
    pos: int = 0  # from 1; 0 until it begins


@dataclass(frozen=True, slots=True)
class Unread:
    """In place of a value of so many bytes that is left in the database until it is asked for."""

    bytes: int


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What is on record of a step: begun before, ended after, never executed again once ended."""

    task_id: str
    attempt: int
    key: str
    pos: int
    kind: str
    name: str
    effect: str
    detail: Any
    state: str  # begun, done, failed
    value: Any = None

    @staticmethod
    def of(task_id: str, attempt: int, step: Step, state: str, value: Any = None) -> JournalEntry:
        """The entry of a step in this state."""
        return JournalEntry(
            task_id,
            attempt,
            step.key,
            step.pos,
            step.kind,
            step.name,
            step.effect,
            step.detail,
            state,
            value,
        )
