"""A task of the engine's own that must not end: when it does, it is started again, which is logged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import structlog

logger = structlog.get_logger("runyard.service")

#: Pause before a service that ended is started again, in seconds.
PAUSE = 0.5


class Service:
    """Runs `work` as a task for as long as it is `wanted`. Create and start it on the loop."""

    def __init__(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], wanted: Callable[[], bool]
    ) -> None:
        self._name = name
        self._work = work
        self._wanted = wanted
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        # In an empty context: a service that is started from a run's code does not belong to the run.
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._work(), name=self._name, context=Context())
        self._task.add_done_callback(self._ended)

    async def wait(self, seconds: float | None) -> bool:
        """Wait for its end, which it must find to be wanted itself; whether it came within `seconds`."""
        if self._task is None:
            return True
        done, _ = await asyncio.wait([self._task], timeout=seconds)
        return bool(done)

    def cancel(self) -> None:
        """End it now."""
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not self._wanted():
            return
        error = None if task.cancelled() else task.exception()
        logger.error(
            "A part of the worker ended by itself and is started again", action="restart", part=self._name,
            error=repr(error)[:300] if error is not None else "it was cancelled",
        )  # fmt: skip
        loop = task.get_loop()
        if not loop.is_closed():
            loop.call_later(PAUSE, self._start_again)

    def _start_again(self) -> None:
        if self._wanted():
            self.start()
