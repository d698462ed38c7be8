"""The load that is put on a subject, and its report: counts, times, and what the subject's processes used.

Standard library only: it runs in the virtualenv of each peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from tests.benchmarks.peers import site, usage
from tests.benchmarks.peers.peer import Peer, ReadablePeer, until

#: Seconds that one command may take: it ends what hangs, and spares what other work slows down.
LIMIT = 240
CONNECTIONS = 32
WARM_UP_RUNS = 100
WARM_UP_SECONDS = 5
#: Seconds of quiet before each submit at rest.
REST = 0.05
#: Samples at rest that are taken also where they take longer than they may.
LEAST_SAMPLES = 5
#: Seconds between two looks whether all runs have started, and ended.
PAUSE = 0.01
#: Bytes of marks that the named pipe holds until they are read: no handler waits for the load to do so.
PIPE_BYTES = 1 << 20


class Load:
    """The measurements of one subject, each of which returns its report."""

    def __init__(self, peer: Peer, marks: str) -> None:
        self._peer = peer
        self._starts: list[float] = []
        os.mkfifo(marks)
        self._pipe = os.open(marks, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(AttributeError, OSError):  # not Linux, or not allowed
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    async def prepare(self) -> dict[str, Any]:
        """Start the subject and warm it up."""
        await self._peer.start()
        report = await self.throughput(WARM_UP_RUNS, CONNECTIONS, limit=WARM_UP_SECONDS)
        return report | {"versions": {name: version(name) for name in self._peer.packages}}

    async def throughput(
        self, runs: int, connections: int, seconds: float = 0.0, limit: float = LIMIT
    ) -> dict[str, Any]:
        """Submit `runs`, or those of `limit` seconds, `connections` at a time; the time until the last has ended."""
        self._starts.clear()
        used = self._used()
        began = time.perf_counter()
        runs = await _at_once(runs, connections, lambda: self._submit(seconds), began + limit)
        accepted = time.perf_counter() - began
        await self._settle(runs)
        elapsed = time.perf_counter() - began
        times = {"seconds": elapsed, "accepted_seconds": accepted}
        return await self._report(runs, len(self._starts), **times, **self._used(used))

    async def latency(self, samples: int, limit: float) -> dict[str, Any]:
        """The seconds from before the submit to the handler's first line, one run at a time."""
        found: list[float] = []
        started = 0
        last = time.perf_counter() + limit
        while len(found) < samples and (len(found) < LEAST_SAMPLES or time.perf_counter() < last):
            await asyncio.sleep(REST)
            self._starts.clear()
            began = time.time()
            await self._submit()
            await self._settle(1)
            found.append(self._starts[0] - began)
            started += len(self._starts)
        return await self._report(len(found), started, seconds=found)

    async def accept(self, rate: float, duration: float) -> dict[str, Any]:
        """The seconds of each submit at a steady rate, which no slow answer lowers."""
        self._starts.clear()
        count = int(rate * duration)
        found: list[float] = []
        used = self._used()
        first = time.perf_counter()

        async def submit_at(due: float) -> None:
            await asyncio.sleep(due - time.perf_counter())
            began = time.perf_counter()
            await self._submit()
            found.append(time.perf_counter() - began)

        await asyncio.gather(*(submit_at(first + number / rate) for number in range(count)))
        await self._settle(count)
        return await self._report(count, len(self._starts), seconds=found, **self._used(used))

    async def waits(self, runs: int, connections: int) -> dict[str, Any]:
        """Runs of one second at once: the time until the last has ended, and the most memory meanwhile."""
        pids = self._pids()
        usage.reset_peak(pids)
        report = await self.throughput(runs, connections, seconds=1.0)
        return report | ({"peak_mib": usage.peak(pids)} if usage.AVAILABLE else {})

    async def reads(self, requests: int, connections: int) -> dict[str, Any]:
        """Have a run shown, `connections` requests at a time; every one has to be answered."""
        peer = self._peer
        assert isinstance(peer, ReadablePeer)
        await _at_once(connections, connections, peer.read)  # opens them
        used = self._used()
        began = time.perf_counter()
        answered = await _at_once(requests, connections, peer.read)
        elapsed = time.perf_counter() - began
        return await self._report(requests, answered, seconds=elapsed, **self._used(used))

    async def rest(self, seconds: float) -> dict[str, Any]:
        """Do nothing for a while; then the memory of the subject's processes."""
        await asyncio.sleep(seconds)
        pids = self._pids()
        memory = {"memory_mib": usage.memory(pids), "resident_mib": usage.resident(pids)}
        memory = memory if usage.AVAILABLE else {}
        return await self._report(self._peer.submitted, self._peer.submitted, **memory)

    async def _submit(self, seconds: float = 0.0) -> None:
        self._peer.submitted += 1
        await self._peer.submit(seconds)

    async def _settle(self, count: int) -> None:
        """Wait until `count` handlers began and nothing is pending."""

        async def ended() -> bool:
            return self._read_marks() >= count and not await self._peer.pending()

        await until(ended, PAUSE)

    async def _report(self, submitted: int, started: int, **figures: object) -> dict[str, Any]:
        ended = submitted - await self._peer.pending()
        return {"submitted": submitted, "started": started, "ended": ended, **figures}

    def _read_marks(self) -> int:
        with contextlib.suppress(BlockingIOError):
            while read := os.read(self._pipe, PIPE_BYTES):
                self._starts += [began for (began,) in site.MARK.iter_unpack(read)]
        return len(self._starts)

    def _pids(self) -> list[int]:
        return usage.tree(child.pid for child in self._peer.processes)

    def _used(self, before: dict[str, float] | None = None) -> dict[str, float]:
        """Seconds of processor of the subject's processes and of this one, less those before."""
        now = {"client_cpu": time.process_time()}
        if usage.AVAILABLE:
            now["cpu"] = usage.cpu(self._pids())
        return {name: value - (before or {}).get(name, 0) for name, value in now.items()}


async def _at_once(
    count: int, connections: int, do: Callable[[], Awaitable[None]], last: float = math.inf
) -> int:
    """Do it `count` times, `connections` at once, or until the clock shows `last`; how often it was done."""
    left = iter(range(count))
    done = 0

    async def next_ones() -> None:
        nonlocal done
        while time.perf_counter() < last and next(left, None) is not None:
            await do()
            done += 1

    await asyncio.gather(*(next_ones() for _ in range(connections)))
    return done
