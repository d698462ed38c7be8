"""The database of a test and its time: that of this host, and what was skipped."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path

from runyard_common.clock import DatabaseClock, KnownClock
from runyard_common.database import migrate
from runyard_common.database.engine import Database


@functools.cache
def empty_database() -> bytes:
    """A SQLite file with all tables: most of what a short run would take is making them."""
    with tempfile.TemporaryDirectory(prefix="runyard-test-") as folder:
        file = Path(folder) / "runyard.db"
        db = Database(f"sqlite:///{file}")
        migrate.upgrade(db)
        db.close()  # the last connection writes everything into the file
        return file.read_bytes()


class Clock:
    """The time of a test."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def now(self) -> float:
        """In epoch seconds."""
        return time.time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        self._skipped += max(0.0, seconds)


def of_clock(db: Database, clock: Clock) -> Database:
    """The database with this clock."""
    db.clock = DatabaseClock(wall=clock.now, passed=clock.now)
    db.now = lambda connection: clock.now()  # type: ignore[method-assign]
    db.clock_of = lambda connection: KnownClock(clock.now())  # type: ignore[method-assign]
    return db
