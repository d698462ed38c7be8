"""What an attempt knows of a run that undoes what it did: which compensations are left, and how far it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from runyard_common.runs.rules.endings import left, step_of
from runyard_common.runs.rules.journal import JournalEntry, Step

#: Whether this is the code of a compensation, which does what the journal does not have.
INSIDE: ContextVar[bool] = ContextVar("runyard_compensation", default=False)
#: Calls without an entry of their own while they go well: what they consist of has one.
WITHOUT_ENTRY: Final = frozenset({"start", "map", "gather"})
#: How long an attempt may compensate where the run has no `timeout`, in seconds.
LONGEST: Final = 3_600.0


@dataclass(slots=True)
class Compensations:
    """Those of one run. The agent's code runs again until each that is left is known: its function is in that code."""

    left: list[tuple[str, str]]  # key and name, in the order in which they were registered
    calls: dict[str, Callable[[], Awaitable[Any]]] = field(default_factory=dict)
    running: Step | None = None
    error: Exception | None = None  # of the one that runs
    waits: bool = False  # for children of the run, which come first

    @classmethod
    def of(cls, journal: Iterable[JournalEntry]) -> Compensations:
        """Those that a journal has, less those whose end it has."""
        return cls(left((entry.key, entry.kind, entry.name) for entry in journal))

    @property
    def failed(self) -> Step:
        """The compensation that a failure of the attempt is put down to: the one that runs; else the last that is left,
        as the code does not get there."""
        key, name = self.left[-1]
        return self.running or step_of(key, name)
