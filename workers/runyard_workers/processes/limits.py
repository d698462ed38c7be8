"""What a child process and its descendants use of memory and processor time, and the limits below which they stay.

The worker looks ten times a second and counts what is theirs alone: memory that no file backs, each page once however
many processes share it. The limits that the kernel keeps are backstops behind that: they count address space, of which
numerical libraries reserve far more than they use, and whole seconds of one process.
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from runyard_common.runs.rules.tasks import Failure
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.processes.code import cpu_limit, memory_limit

#: How often the worker looks, in seconds.
EVERY: Final = 0.1
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = resource.getpagesize()
#: Writable address space that a process may have beyond twice its memory limit, in bytes: stacks of threads, arenas.
_SPARE: Final = 2**30
_MIB: Final = 2**20


def family(pid: int) -> Iterator[int]:
    """The process and its descendants, as far as the system shows them."""
    pending = [pid]
    while pending:
        one = pending.pop()
        yield one
        try:
            for thread in Path(f"/proc/{one}/task").iterdir():
                pending += map(int, (thread / "children").read_text().split())
        except OSError:
            continue


def resident(pid: int) -> int:
    """Resident bytes of one process; 0 where it is gone or the system does not show them."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def own_memory(pid: int) -> int:
    """Bytes that are the process's own: anonymous and shared memory, in proportion to its sharers, and its part that is
    swapped out. Reading that takes milliseconds for gigabytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    kilobytes = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
    parts = [kilobytes.get(name, "0").split()[0] for name in ("Pss_Anon", "Pss_Shmem", "SwapPss")]
    return sum(map(int, parts)) * 1024


def cpu_seconds(pid: int) -> float:
    """Processor time of one process and of its children that have ended, in seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS
    except (OSError, ValueError, IndexError):
        return 0.0


class Watch:
    """Looks at a process while a run is in it. Create, `start` and `stop` it on the loop."""

    def __init__(
        self,
        pid: int,
        memory_mb: int | None,
        cpu: float | None,
        on_exceeded: Callable[[Failure], None],
    ) -> None:
        """`on_exceeded` is called once, with the failure of the run."""
        self._pid = pid
        self._memory_mb = memory_mb
        self._cpu = cpu
        self._on_exceeded = on_exceeded
        self._timer: asyncio.TimerHandle | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._used_before = cpu_seconds(pid) if cpu is not None else 0.0

    def start(self) -> None:
        """Begin, where there is a limit that can be looked at."""
        if (self._memory_mb is not None or self._cpu is not None) and sys.platform == "linux":
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._look)

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        members = list(family(self._pid))
        if self._cpu is not None and sum(map(cpu_seconds, members)) - self._used_before > self._cpu:
            self._exceeded(cpu_limit(self._cpu))
        elif self._memory_mb is not None and sum(map(resident, members)) > self._memory_mb * _MIB:
            # The quick figure counts libraries, and shared pages several times: look again, more closely.
            self._measuring = asyncio.get_running_loop().create_task(self._measure(members))
        else:
            self.start()

    async def _measure(self, members: list[int]) -> None:
        assert self._memory_mb is not None
        used = await in_engine_thread(lambda: sum(map(own_memory, members)))
        if self._timer is None:
            return  # the run has ended meanwhile
        if used > self._memory_mb * _MIB:
            self._exceeded(memory_limit(self._memory_mb))
        else:
            self.start()

    def _exceeded(self, failure: Failure) -> None:
        self.stop()
        self._on_exceeded(failure)


def set_backstops(memory_mb: int | None, cpu: float | None) -> None:
    """Limit this process, for the run that begins; None lifts what an earlier run had."""
    data, used = resource.getrlimit(resource.RLIMIT_DATA), resource.getrusage(resource.RUSAGE_SELF)
    most = data[1] if memory_mb is None else _least(2 * memory_mb * _MIB + _SPARE, data[1])
    _set(resource.RLIMIT_DATA, most, data)
    time = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = time[1] if cpu is None else _least(math.ceil(used.ru_utime + used.ru_stime + cpu) + 1, time[1])
    _set(resource.RLIMIT_CPU, seconds, time)


def _least(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _set(kind: int, soft: int, now: tuple[int, int]) -> None:
    if soft != now[0]:
        try:
            resource.setrlimit(kind, (soft, now[1]))
        except (OSError, ValueError):
            pass  # a system without this limit
