"""When an attempt's code may be interrupted: not inside a shield, and at once where a heartbeat is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

#: Why an attempt is ended whose code did not call `ctx.heartbeat` within the time that it named.
STALLED: Final = "stalled"


class Interruptions:
    """Those of one attempt. `beat` may be called from any thread; the others belong to the loop's thread."""

    __slots__ = (
        "_beat",
        "_deferred",
        "_limit",
        "_limit_at",
        "_loop",
        "_running",
        "_shields",
        "_timer",
        "_until",
        "on_deferred",
    )

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[object] | None = None
        self._limit: asyncio.Timeout | None = None
        self._limit_at: float | None = (
            None  # when the limit would end the attempt, while a shield puts it off
        )
        self._shields = 0
        self._until = 0.0  # of the shields, on the loop's clock
        self._deferred: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        #: Called when an interruption is put off: code elsewhere has to know that it must leave.
        self.on_deferred: Callable[[], object] | None = None

    def begin(self, limit: asyncio.Timeout | None) -> None:
        """The code begins in this task, with this limit of its time."""
        self._loop = asyncio.get_running_loop()
        self._running, self._limit = asyncio.current_task(), limit

    def end(self) -> None:
        """The code is over."""
        for timer in (self._beat, self._timer):
            if timer is not None:
                timer.cancel()
        self._running = self._loop = self._limit = self._limit_at = self.on_deferred = None

    # -- shields -------------------------------------------------------------------------------------------

    @property
    def shielded(self) -> bool:
        """Whether the code is in a shield."""
        return self._shields > 0

    def enter(self, seconds: float) -> None:
        """From now on the code is not interrupted, for so many seconds at most."""
        self._shields += 1
        self._until = max(self._until, asyncio.get_running_loop().time() + seconds)
        if self._limit is not None and not self._limit.expired() and (at := self._limit.when()) is not None:
            self._limit_at = at if self._limit_at is None else self._limit_at
            self._limit.reschedule(max(self._limit_at, self._until))

    def leave(self) -> None:
        """A shield ends; with the last one, what was put off happens."""
        self._shields -= 1
        if self._shields:
            return
        self._until = 0.0
        if self._limit is not None and self._limit_at is not None and not self._limit.expired():
            self._limit.reschedule(self._limit_at)
        self._limit_at = None
        if self._running is asyncio.current_task():
            self._deferred = None  # the end of the shield raises `Cancelled`
        self._interrupt()

    def defer(self, interrupt: Callable[[], object]) -> bool:
        """Interrupt the code when it leaves its shields; False where it is in none."""
        if not self._shields or self._loop is None:
            return False
        self._deferred = interrupt
        self._timer = self._loop.call_at(self._until, self._interrupt)
        if self.on_deferred is not None:
            self.on_deferred()
        return True

    def _interrupt(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deferred, self._deferred, self._timer = self._deferred, None, None
        if deferred is not None:
            deferred()

    # -- heartbeats ----------------------------------------------------------------------------------------

    def beat(self, within: float | None, missed: Callable[[], object]) -> None:
        """The code is alive, and will be `within` so many seconds; else `missed` is called, and it is cancelled."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._arm, within, missed)

    def _arm(self, within: float | None, missed: Callable[[], object]) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self._beat = None
        if within is not None and self._loop is not None:
            self._beat = self._loop.call_later(within, self._miss, missed)

    def _miss(self, missed: Callable[[], object]) -> None:
        missed()
        if self._running is not None:
            self._running.cancel()
