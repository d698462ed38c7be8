"""What every duty looks like to the loop that drives it."""

from __future__ import annotations

from typing import Protocol


class Duty(Protocol):
    """A chore. `every` is its rhythm in seconds; `run_once` returns how much it did.

    `now` is None in service: the database's clock, read in the duty's transaction, is the truth.
    """

    name: str
    every: float

    def run_once(self, now: float | None = None) -> int:
        """Do what is due; more than a batch is left for the next call."""
