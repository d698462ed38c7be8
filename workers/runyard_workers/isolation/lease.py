"""The lease as its holder sees it: whether this process may still act for the runs it holds.

The database's row is the truth; this is what is known of it without asking. A process that was paused (a suspended
machine, a long swap) finds here that its lease may be over before it does anything for a run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def _clock() -> float:
    """Seconds that also pass while the machine is suspended, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """How long ago the last renewal that succeeded was asked for. Safe to use from any thread."""

    def __init__(self, seconds: float, clock: Callable[[], float] = _clock) -> None:
        """`seconds` is the lease's length; it begins now."""
        self.seconds = seconds
        self._clock = clock
        self._asked_at = clock()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def now(self) -> float:
        """The time to give to `renewed`, read before a renewal is sent."""
        return self._clock()

    @property
    def asked_at(self) -> float:
        """When the last renewal that succeeded was sent."""
        return self._asked_at

    @property
    def valid(self) -> bool:
        """Whether the lease cannot have run out yet: counted from before its last renewal was sent."""
        return self._clock() - self._asked_at < self.seconds

    def renewed(self, asked_at: float) -> None:
        """A renewal sent at `asked_at` succeeded."""
        self._asked_at = max(self._asked_at, asked_at)
        self.wake()

    def wake(self) -> None:
        """Let those that wait for a renewal look again: it came, or will not come."""
        for loop, event in list(self._waiters):
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def changed(self) -> None:
        """Wait for the next renewal, or `wake`."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        self._waiters.add(waiter)
        try:
            if not self.valid:
                await waiter[1].wait()
        finally:
            self._waiters.discard(waiter)
