"""What processes used of the processor and of memory, from Linux's /proc. Standard library only."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PROC = Path("/proc")
#: Elsewhere these figures are missing.
AVAILABLE = (PROC / "self" / "smaps_rollup").exists()
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """The processes with their descendants."""
    children = defaultdict(list)
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children[int(_stat(int(folder.name))[1])].append(int(folder.name))
    found, open_ = [], list(roots)
    while open_:
        found.append(open_.pop())
        open_ += children[found[-1]]
    return found


def cpu(pids: Iterable[int]) -> float:
    """Seconds in user and system mode, those of children that have ended included."""
    return _TICK * sum(sum(map(int, fields[11:15])) for fields in _each(pids, _stat))


def memory(pids: Iterable[int]) -> float:
    """MiB; a page that several processes share counts in parts (PSS)."""
    return sum(_each(pids, lambda pid: _kib(pid, "smaps_rollup", "Pss"))) / 1024


def resident(pids: Iterable[int]) -> float:
    """MiB in memory at the moment."""
    return sum(_each(pids, lambda pid: _kib(pid, "status", "VmRSS"))) / 1024


def peak(pids: Iterable[int]) -> float:
    """MiB that were in memory at most since `reset_peak`."""
    return sum(_each(pids, lambda pid: _kib(pid, "status", "VmHWM"))) / 1024


def reset_peak(pids: Iterable[int]) -> None:
    """Let the peak begin at what is in memory now."""
    for pid in pids:
        with contextlib.suppress(OSError):
            (PROC / str(pid) / "clear_refs").write_text("5")


def _each(pids: Iterable[int], read: Callable[[int], T]) -> list[T]:
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            found.append(read(pid))
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: the state is the first, the parent the second."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _kib(pid: int, file: str, name: str) -> int:
    for line in (PROC / str(pid) / file).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
