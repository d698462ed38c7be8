"""File descriptors of the process: code that leaks them leaves none for its neighbours, or for the engine."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from runyard_common.process import descriptor_limit

#: The share of its descriptors that a worker may have open before it gives way to a new one.
_MOST: Final = 0.9
_NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE})
_KEPT_BACK: Final = 64
_OPEN: Final = Path("/proc/self/fd")


class Reserve:
    """Descriptors kept back, so that a process that has no other left can still hand its runs on."""

    def __init__(self, count: int = _KEPT_BACK) -> None:
        self._reserved: list[int] = []
        try:
            for _ in range(count):
                self._reserved.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # as many as there are

    def release(self) -> None:
        """Close them, so that the next calls find some."""
        while self._reserved:
            descriptor = self._reserved.pop()
            try:
                if os.path.sameopenfile(descriptor, self._reserved[0] if self._reserved else descriptor):
                    os.close(descriptor)
            except OSError:
                pass  # an agent's code closed it

    def __del__(self) -> None:
        self.release()


def nearly_exhausted() -> bool:
    """Whether this process has so many open that the next calls may find none."""
    limit = descriptor_limit()
    try:
        in_use = len(os.listdir(_OPEN))  # noqa: PTH208 - a hundred thousand names need no paths
    except FileNotFoundError:
        return False  # no /proc: nothing is known
    except OSError as error:
        return error.errno in _NONE_LEFT
    return limit > 0 and in_use > _MOST * limit


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error, or one behind it, means that there is no descriptor left."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in _NONE_LEFT:
            return True
        current = current.__cause__ or current.__context__
    return False
