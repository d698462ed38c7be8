"""An event loop in a thread of its own, which outlives all that its tasks do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

logger = structlog.get_logger("runyard.worker")

LEFTOVER_SECONDS = 2.0  # what tasks that still run have for their `finally` blocks
POLL_SECONDS = 0.02


class LoopThread:
    """uvloop's loop where it can be imported, else asyncio's; `executor` serves `asyncio.to_thread` on it."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.loop = _new_loop()
        self.loop.set_default_executor(executor)
        self.ended = False
        self._thread = threading.Thread(target=self._run, name="runs", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the loop still runs."""
        return self._thread.is_alive()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def wait_for(self, coroutine: Coroutine[Any, Any, T], meanwhile: Callable[[], None]) -> T:
        """Run a coroutine from another thread, calling `meanwhile` (which may raise) until it is done."""
        future = self.submit(coroutine)
        while not future.done():
            meanwhile()
            time.sleep(POLL_SECONDS)
        return future.result()

    def end(self, seconds: float, *, starting: bool = False) -> None:
        """Cancel what still runs, stop and close the loop; a loop that is blocked is left behind.

        `starting`: what blocks it then is no task, but the start itself, which imports agents and libraries.
        """
        self.ended = True
        with suppress(RuntimeError):  # closed already
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(seconds)
        if not self._thread.is_alive():
            return
        if starting:
            logger.info("The worker was stopped before it had started")
        else:
            logger.critical("A task blocks the event loop, which is left behind; SIGUSR1 shows where it is")

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.ended:
            try:
                self.loop.run_forever()
            except BaseException:
                # asyncio lets a SystemExit of a background task through; the other tasks go on.
                logger.critical("A background task tried to end the event loop", exc_info=True)
        try:
            self.loop.run_until_complete(_cancel_leftovers())
        finally:
            # Closing the loop shuts its executor down, which may be shared.
            self.loop.set_default_executor(ThreadPoolExecutor(1))
            self.loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _cancel_leftovers() -> None:
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftovers:
        task.cancel()
    if leftovers:
        await asyncio.wait(leftovers, timeout=LEFTOVER_SECONDS)
    await asyncio.get_running_loop().shutdown_asyncgens()
