"""What every duty looks like to the loop that drives it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Duty(Protocol):
    """A chore. `every` is its rhythm in seconds; `run_once` returns how much it did.

    `now` is None in service: the database's clock, read in the duty's transaction, is the truth.
    """

    name: str
    every: float

    def run_once(self, now: float | None = None) -> int:
        """Do what is due; more than a batch is left for the next call."""


@runtime_checkable
class Punctual(Protocol):
    """A duty that knows when it is wanted next: it has a thread of its own, so that no chore makes it late."""

    due_in: float | None  # seconds from the end of its last run; None: not known, keep to the rhythm
