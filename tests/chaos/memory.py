"""A bound on a worker's memory, so that an agent that takes all there is ends its process and not the host.

It is a control group of the memory controller (version 1 or 2), as containers have, which only root can make.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


class MemoryLimits:
    """Control groups of this process's storm."""

    def __init__(self, root: Path, file: str, most: int) -> None:
        self._root, self._file, self._most = root, file, most
        self._made: list[Path] = []

    @staticmethod
    def possible() -> bool:
        """Whether such groups can be made here."""
        return os.geteuid() == 0 and _controller() is not None

    @staticmethod
    @contextmanager
    def of(most: int) -> Iterator[MemoryLimits]:
        """Groups that allow `most` bytes to each process bound; removed at the end."""
        found = _controller()
        if found is None:
            raise OSError("No memory controller: leave out the poison that needs it.")
        limits = MemoryLimits(*found, most)
        try:
            yield limits
        finally:
            for group in limits._made:
                with suppress(OSError):  # the kernel still counts the dead
                    group.rmdir()

    def bound(self, pid: int) -> None:
        """Put one process, and what it starts, under a bound of its own."""
        group = self._root / f"runyard-chaos-{pid}"
        group.mkdir(exist_ok=True)
        (group / self._file).write_text(str(self._most))
        (group / "cgroup.procs").write_text(str(pid))
        self._made.append(group)


def _controller() -> tuple[Path, str] | None:
    if (_V1 / "memory.limit_in_bytes").exists():
        return _V1, "memory.limit_in_bytes"
    controllers = _V2 / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text():
        return _V2, "memory.max"
    return None
