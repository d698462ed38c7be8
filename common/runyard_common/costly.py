"""Costly work on threads of its own: one piece at a time for each party (an organisation), which rests in between.

Work that holds the interpreter (large JSON, YAML, a schema over many values) delays all other parties for as long as
it runs. A party that has used some processor time rests for twice as long: however fast it sends, two thirds of the
time are left to the others.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, ParamSpec, TypeVar

#: Seconds of rest for each second of work.
REST: Final = 2.0
#: Bytes to be stored that count as a second of work.
STORED: Final = 25_000_000
#: Work shorter than this, in seconds, needs no rest.
LIGHT: Final = 0.002
#: The longest rest, in seconds: one long piece of work must not lock its party out.
LONGEST: Final = 10.0


class Pace:
    """When each party may work again; times are seconds of a clock that never steps."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def wait(self, party: str, now: float) -> float:
        """How long this party has to rest yet, in seconds."""
        return max(0.0, self._free_at.get(party, 0.0) - now)

    def worked(self, party: str, seconds: float, now: float) -> None:
        """This party has used `seconds` of processor time just now."""
        if seconds < LIGHT:
            return
        if len(self._free_at) >= 1_000:
            self._free_at = {name: at for name, at in self._free_at.items() if at > now}
        free_at = max(now, self._free_at.get(party, now)) + seconds * REST
        self._free_at[party] = min(now + LONGEST, free_at)


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
