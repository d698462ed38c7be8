"""The database's clock as this process knows it: leases, deadlines and due times go by it, not by the host's.

Hosts whose clocks are apart must agree on what has expired. A process reads the database's clock in each of its
transactions; between two samples it counts the seconds that pass, on a clock that cannot be set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

logger = structlog.get_logger("runyard.clock")

#: How far the host's clock may be from the database's before the log warns, in seconds.
TOLERATED_S: Final = 2.0
#: How old a sample may be, and how uncertain, to go by without asking the database, in seconds.
_RECENT: Final = 10.0
_CERTAIN: Final = 0.05
#: How much the uncertainty of a sample grows with its age: later samples replace it.
_GROWTH: Final = 0.01


def elapsed() -> float:
    """Seconds since some fixed moment, suspension of the host included; it cannot be set."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class DatabaseClock:
    """One for each `Database`, which feeds it. Safe to use from any thread."""

    def __init__(
        self, *, wall: Callable[[], float] = time.time, passed: Callable[[], float] = elapsed
    ) -> None:
        self._wall = wall
        self._passed = passed
        self._sample: tuple[float, float, float] | None = None  # database, elapsed, uncertainty: in seconds
        self._warned = False

    def observe(self, database_now: float, round_trip_s: float = 0.0) -> None:
        """Note what the database's clock showed within the last `round_trip_s` seconds.

        A sample that took long is worth less than a recent quick one, and does not replace it: the process
        may have been stopped between the database's answer and this call.
        """
        at = self._passed()
        known = self._sample
        if known is None or round_trip_s <= known[2] + (at - known[1]) * _GROWTH:
            self._sample = (database_now + round_trip_s / 2, at, round_trip_s)
            self._warn()

    def now(self) -> float:
        """The database's time, in seconds since the epoch; the host's before the first sample."""
        sample = self._sample
        if sample is None:
            return self._wall()
        return sample[0] + self._passed() - sample[1]

    def at_least(self) -> float | None:
        """A moment that the database's time has certainly reached, milliseconds ago; None without a recent sample."""
        sample = self._sample
        if sample is None or sample[2] > _CERTAIN:
            return None
        age = self._passed() - sample[1]
        return sample[0] - sample[2] / 2 + age if age < _RECENT else None

    @property
    def offset_s(self) -> float:
        """By how many seconds the host's clock is ahead of the database's (negative: behind)."""
        return self._wall() - self.now()

    def _warn(self) -> None:
        """Log once that the host's clock is off, and once that it is right again."""
        offset = self.offset_s
        off = abs(offset) > TOLERATED_S
        if off and not self._warned:
            logger.warning(
                "This host's clock differs from the database's. Runs go by the database's;"
                " synchronise the host's clock (NTP), so that logs and tokens agree.",
                action="clock",
                seconds=round(offset, 3),
            )
        elif self._warned and not off:
            logger.info("This host's clock agrees with the database's again.", action="clock")
        self._warned = off


class TransactionClock(Protocol):
    """When a write transaction happens, in seconds since the epoch on the database's clock."""

    def now(self) -> float:
        """The same moment each time."""

    def ended(self) -> None:
        """Called after the commit."""


class KnownClock:
    """A moment that is known: SQLite runs inside this host."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        """See `TransactionClock.now`."""
        return self._now

    def ended(self) -> None:
        """See `TransactionClock.ended`."""


class Asked(Protocol):
    """A transaction of PostgreSQL, which was asked for its clock when it began."""

    @property
    def clock(self) -> float | None:
        """The answer, once it is there."""


class AskedClock:
    """Of PostgreSQL. While its answer is not there, a recent one will do, which spares a round trip."""

    def __init__(self, clock: DatabaseClock, transaction: Asked, wait: Callable[[], object]) -> None:
        """`wait` returns once the answers to all that was sent are there."""
        self._wait = wait
        self._clock = clock
        self._transaction = transaction
        self._asked = elapsed()
        self._now: float | None = None

    def now(self) -> float:
        """See `TransactionClock.now`."""
        if self._now is None and self._transaction.clock is None:
            self._now = self._clock.at_least()
        if self._now is None:
            self._now = self._answer()
        return self._now

    def ended(self) -> None:
        """See `TransactionClock.ended`."""
        self._answer()

    def _answer(self) -> float:
        if (answer := self._transaction.clock) is None:
            self._wait()
            answer = self._transaction.clock
            assert answer is not None
        self._clock.observe(answer, elapsed() - self._asked)
        return answer
