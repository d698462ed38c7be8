"""Roll up: bring up to date the sums over time that the console and `GET /statistics` show."""

from __future__ import annotations

import time
from typing import Final

from runyard_common.database.transaction import Store
from runyard_common.statistics import service as statistics

#: Between two rounds, in seconds. A round that takes long is followed by as many times its own length.
ROUND: Final = 10.0
REST: Final = 25
#: While history is counted that was there before the sums, it rests as long as it worked.
BREATH: Final = 0.02


class RollUp:
    """One round sums up the last minutes; a scheduler that starts on a long history goes through it in many."""

    name = "roll_up"
    every = ROUND

    def __init__(self, store: Store) -> None:
        self._store = store
        self.due_in: float | None = None

    def run_once(self, now: float | None = None) -> int:
        """Sum up what is new; always 0, as it is nothing to log."""
        started = time.monotonic()
        done = statistics.roll_up(self._store, now)
        took = time.monotonic() - started
        self.due_in = max(BREATH, took) if done.behind else max(ROUND, REST * took)
        return 0
