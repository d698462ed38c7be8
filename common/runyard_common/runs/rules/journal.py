"""Steps of a run, as its attempts write them and as its journal keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

#: The mark, in an entry's detail, of a step that began while another was under way.
CONCURRENT: Final = "beside"
#: In the detail of a step that began inside another: the key of that one.
INSIDE: Final = "inside"
#: In the detail of a step that began in the handler of a failure: the key of the step that failed.
HANDLES: Final = "handles"
#: In the detail of a model turn: what was asked, as a digest.
ASKED: Final = "asked"
#: In the detail of such a turn: others were asked meanwhile, so that these come in any order.
TOGETHER: Final = "together"


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


@dataclass(frozen=True, slots=True)
class TimedEntry:
    """What is on record of a step, and when. `detail` (what it was called with) and `value` are None where they are
    larger than was asked for; `detail_bytes` and `value_bytes` are their sizes."""

    key: str
    pos: int
    attempt: int
    kind: str
    name: str
    effect: str
    state: str
    began_at: float
    ended_at: float | None
    detail: Any
    detail_bytes: int
    value: Any
    value_bytes: int


class Placed(NamedTuple):
    """Where a task's journal has an entry."""

    task_id: str
    key: str
    pos: int
    detail: Mapping[str, Any] | None
    state: str
    kind: str = "step"
    effect: str = "idempotent"


def caught(entries: Iterable[Placed]) -> list[tuple[str, str]]:
    """The failed entries (task, key) that the code of their run has caught: it went on and did something after them.

    Of concurrent steps that is known only by what handlers have done. What a step has done inside is not after it.
    """
    by_task: dict[str, list[Placed]] = {}
    for entry in entries:
        by_task.setdefault(entry.task_id, []).append(entry)
    return [found for of_task in by_task.values() for found in _caught_in(of_task)]


def tried_again(ended_by: str, entries: Sequence[Placed]) -> list[str]:
    """The keys of what another attempt tries again, of one task whose attempt was ended by the failure of a step.

    That step, though the code has caught the failure for a while: with it the steps that its handlers have made. None
    where more was done since, or what may not be done twice.
    """
    failed = next((entry for entry in entries if entry.key == ended_by and entry.state == "failed"), None)
    if failed is None:
        return []
    around = {entry.key: (entry.detail or {}).get(INSIDE) for entry in entries}
    handled = {ended_by}  # and what has handled that
    for entry in sorted(entries, key=lambda one: one.pos):
        detail, enclosing = entry.detail or {}, _enclosing(entry.key, around)
        if entry.pos <= failed.pos or ended_by in enclosing:
            continue
        if detail.get(HANDLES) in handled or handled & enclosing:
            if entry.kind != "step" or entry.effect == "irreversible":
                return []
            handled.add(entry.key)
        elif CONCURRENT not in detail:
            return []
    return list(handled)


def enclosing(key: str, entries: Iterable[Placed]) -> set[str]:
    """The key, and those of the steps that it is inside of, of one task."""
    return _enclosing(key, {entry.key: (entry.detail or {}).get(INSIDE) for entry in entries})


def _caught_in(entries: list[Placed]) -> Iterator[tuple[str, str]]:
    around = {entry.key: (entry.detail or {}).get(INSIDE) for entry in entries}
    handled = {(entry.detail or {}).get(HANDLES) for entry in entries}
    after: list[set[str]] = []  # of each later entry that no other was beside: it and the steps around it
    for entry in sorted(entries, key=lambda one: -one.pos):
        in_order = CONCURRENT not in (entry.detail or {})
        went_on = entry.key in handled or (in_order and any(entry.key not in one for one in after))
        if entry.state == "failed" and went_on:
            yield entry.task_id, entry.key
        if in_order:
            after.append(_enclosing(entry.key, around))


def _enclosing(key: str, around: Mapping[str, str | None]) -> set[str]:
    found = {key}
    while (outer := around.get(key)) is not None and outer not in found:
        found.add(outer)
        key = outer
    return found
