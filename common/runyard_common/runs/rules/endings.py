"""How a run ends that has registered compensations: it undoes first, and then ends as it was to end. Pure.

What ends it is kept as its *ending* {event, error, data, attempt}. From then on nothing but its compensations is left
to do, and no later end replaces the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import Event

#: Entries of a journal of this kind are registered compensations, and of that kind what they did.
REGISTERED: Final = "on_failure"
COMPENSATION: Final = "compensate"
#: What ends a run without success.
CUTTING_OFF: Final = frozenset({Event.FAIL, Event.EXPIRE, Event.CANCEL})

Ending = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """A run that something ends: its ending, where it has one, and how many compensations it has registered."""

    ending: Ending | None
    registered: int


@dataclass(frozen=True, slots=True)
class Instead:
    """What happens in place of a run's end: the event, its data in the log, the columns to set."""

    event: Event
    data: dict[str, Any]
    values: dict[str, Any]


def instead(
    known: Known, event: Event, data: dict[str, Any], values: dict[str, Any], attempt: int
) -> Instead | None:
    """What happens to a run that `event` would end; None: nothing, as it is about to end otherwise."""
    if known.ending is not None:
        return None if event is Event.CANCEL else _ended(known.ending, data)
    if not known.registered:
        return Instead(event, data, values)
    ending = {"event": event.value, "error": values.get("error"), "data": data, "attempt": attempt}
    kept = {name: value for name, value in values.items() if name != "error"}
    # Its deadline is over, or counts no more; the budgets of the compensations are their own.
    changed = {"ending": ending, "deadline_at": None, "retries": None, "releases": 0, "resume": 0}
    logged = {"for": event.value, "compensations": known.registered, **data}
    return Instead(Event.COMPENSATE, logged, kept | changed | {"available_at": None})


def _ended(ending: Ending, data: Mapping[str, Any]) -> Instead:
    """The end that was put off. What failed meanwhile is in its data."""
    found = data.get("error")
    more = {"compensation_error": found} if found else {}
    return Instead(Event(ending["event"]), {**ending["data"], **more}, {"error": ending["error"]})


def key_of(registered: str) -> str:
    """The journal key of what a registered compensation did."""
    return f"{COMPENSATION}:{registered}"


def step_of(registered: str, name: str, pos: int = 0) -> Step:
    """The step that a compensation is, by the key of its registration."""
    return Step(key_of(registered), COMPENSATION, name, "idempotent", pos=pos)


def left(entries: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """The compensations, of the entries (key, kind, name) of a journal in their order, that have not ended: the key and
    name of each registration. The last of them is the one that runs, or comes next."""
    found = list(entries)
    keys = {key for key, _, _ in found}
    return [(key, name) for key, kind, name in found if kind == REGISTERED and key_of(key) not in keys]
