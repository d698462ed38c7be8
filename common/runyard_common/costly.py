"""Costly work on a thread beside the event loop: one piece at a time for each party, which rests in between."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar

from runyard_common.values.pacing import STORED, Pace

P = ParamSpec("P")
R = TypeVar("R")
#: Seconds for which a thread that computes may keep the others waiting for the interpreter, where it is pure Python.
_TURN: Final = 0.001


class CostlyWork:
    """Runs costly work for the parties (organisations) of one process. Belongs to one event loop."""

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="costly")
        self._pace = Pace()
        self._turns: dict[str, _Turn] = {}

    async def do(self, party: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `work` returns or raises, once the party's earlier work is done and it has rested."""

        def timed() -> tuple[R | None, Exception | None, float]:
            began = time.thread_time()
            try:
                return work(*args, **kwargs), None, time.thread_time() - began
            except Exception as error:  # noqa: BLE001 - raised again below, with its cost noted
                return None, error, time.thread_time() - began

        loop = asyncio.get_running_loop()
        async with self._turn(party):
            if (rest := self._pace.wait(party, loop.time())) > 0:
                await asyncio.sleep(rest)
            value, error, seconds = await loop.run_in_executor(self._pool, timed)
            self._pace.worked(party, seconds, loop.time())
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def wrote(self, party: str, size: int) -> None:
        """This party is about to have so many bytes stored: the disk is shared, too."""
        self._pace.worked(party, size / STORED, asyncio.get_running_loop().time())

    def close(self) -> None:
        """End the threads once they are idle."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _turn(self, party: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(party, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[party]


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def tune_process() -> None:
    """Tune this process for serving, once all it needs is loaded.

    What is loaded stays: the collector need not look at it again. A new value of many parts is looked through less
    often while it is made, and a thread that computes lets the event loop in after a millisecond.
    """
    gc.collect()
    gc.freeze()
    gc.enable()  # off while a process imports
    gc.set_threshold(20_000, 20, 20)
    sys.setswitchinterval(_TURN)
