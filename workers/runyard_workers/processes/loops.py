"""An event loop of an agent's own, in the thread that runs its code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from typing import Any

from runyard import branches
from runyard_workers.isolation import contained
from runyard_workers.isolation.threads import DaemonThreads

#: What tasks that the code left behind have for their `finally` blocks, in seconds.
LEFTOVER_SECONDS = 1.0
_THREADS = 32  # of `asyncio.to_thread`, and of plain functions of steps


class CodeLoop:
    """The loop that the process's policy makes. Every method but `cancel` belongs to the thread that made it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._threads = DaemonThreads(_THREADS, "code")
        self.loop.set_default_executor(self._threads)
        self.loop.set_task_factory(contained.task)
        asyncio.set_event_loop(self.loop)
        self._main: asyncio.Task[Any] | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What `coroutine` returns or raises."""
        self._main = self.loop.create_task(coroutine)
        return self.loop.run_until_complete(self._main)

    def cancel(self) -> None:
        """Cancel what `run` is at. Safe to call from any thread."""
        if self._main is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._main.cancel)

    def close(self) -> int:
        """Cancel what the code left behind; how many tasks and threads go on all the same."""
        try:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            if left:
                _, left = self.loop.run_until_complete(asyncio.wait(left, timeout=LEFTOVER_SECONDS))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self.loop._default_executor = None  # type: ignore[attr-defined]  # closing it would wait for its threads
            self.loop.close()
            self._threads.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + LEFTOVER_SECONDS
        while self._threads.size and time.monotonic() < end:
            time.sleep(0.002)
        return len(left) + self._threads.size

    @classmethod
    def run_once(cls, awaitable: Awaitable[Any]) -> Any:
        """What `awaitable` gives, on a loop that is made for it."""

        async def main() -> Any:
            branches.begin()
            return await awaitable

        loop = cls()
        try:
            return loop.run(main())
        finally:
            loop.close()
