"""How many runs a worker process holds at once: a semaphore that can be resized and taken from in bulk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType


class Slots:
    """Places for `limit` runs, handed out first come, first served.

    Change it on the loop's thread only; `limit`, `in_use` and `free` may be read from any thread.
    `on_room` is called, on the loop, whenever a full pool has room again.
    """

    def __init__(self, limit: int, on_room: Callable[[], None] | None = None) -> None:
        if limit < 1:
            raise ValueError(f"a pool needs at least one slot, not {limit}")
        self.limit = limit
        self.in_use = 0
        self._on_room = on_room
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """Slots that nobody holds; none while somebody waits, as what is released goes to them first."""
        return max(0, self.limit - self.in_use)

    def take(self, wanted: int) -> int:
        """Take up to `wanted` slots without waiting; the answer is how many were free, and are now held."""
        taken = max(0, min(wanted, self.free))
        self.in_use += taken
        return taken

    def occupy(self, count: int) -> None:
        """Hold `count` more slots than were taken, beyond the limit if need be, until they are released."""
        self.in_use += count

    async def acquire(self) -> None:
        """Wait for one slot and take it."""
        if self.free:
            self.in_use += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._forget(waiter)
            else:  # the slot was granted in the same breath as the cancellation
                self.release()
            raise

    def release(self, count: int = 1) -> None:
        """Give `count` slots back."""
        if count > self.in_use:
            raise ValueError(f"{count} slots released, {self.in_use} held")
        was_full = not self.free
        self.in_use -= count
        self._grant(was_full)

    def resize(self, limit: int) -> None:
        """Change the number of slots; who holds one beyond a smaller limit keeps it until it is released."""
        if limit < 1:
            raise ValueError(f"a pool needs at least one slot, not {limit}")
        was_full = not self.free
        self.limit = limit
        self._grant(was_full)

    async def __aenter__(self) -> Slots:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _grant(self, was_full: bool) -> None:
        while self._waiters and self.in_use < self.limit:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.in_use += 1
                waiter.set_result(None)
        if was_full and self.free and self._on_room:
            self._on_room()

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
