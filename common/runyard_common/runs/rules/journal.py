"""Steps of a run, as its attempts write them and as its journal keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

#: The mark, in an entry's detail, of a step that began while another was under way.
CONCURRENT: Final = "beside"
#: In the detail of a step that began inside another: the key of that one.
INSIDE: Final = "inside"


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


class Placed(NamedTuple):
    """Where a task's journal has an entry."""

    task_id: str
    key: str
    pos: int
    detail: Mapping[str, Any] | None
    state: str


def caught(entries: Iterable[Placed]) -> list[tuple[str, str]]:
    """The failed entries (task, key) that the code of their run has caught: it went on and did something after them.

    Of concurrent steps that is not known. What a step has done inside is not after it.
    """
    by_task: dict[str, list[Placed]] = {}
    for entry in entries:
        by_task.setdefault(entry.task_id, []).append(entry)
    return [
        (failed.task_id, failed.key)
        for of_task in by_task.values()
        for failed in of_task
        if failed.state == "failed" and CONCURRENT not in (failed.detail or {})
        if any(_is_after(later, failed, of_task) for later in of_task)
    ]


def _is_after(later: Placed, failed: Placed, entries: list[Placed]) -> bool:
    if later.pos <= failed.pos:
        return False
    around = {entry.key: (entry.detail or {}).get(INSIDE) for entry in entries}
    key: str | None = later.key
    for _ in range(len(around)):
        key = around.get(key or "")
        if key is None or key == failed.key:
            break
    return key != failed.key
