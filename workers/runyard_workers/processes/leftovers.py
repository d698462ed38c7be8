"""What an agent's code leaves in its process. A process in which anything is left is not given to another run."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Final

#: How long threads have that are about to end, in seconds.
_SECONDS: Final = 0.3
#: Descriptors that the code may keep open beyond those of the start: connections of its modules stay, as in a thread.
_MOST_OPEN: Final = 32
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS: Final = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})
#: Their soft limits are set for each run, see `limits`.
_OURS: Final = (resource.RLIMIT_DATA, resource.RLIMIT_CPU)


class Leftovers:
    """Compares the process with what it was when this was made, before its first run."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._children = _children()
        self._descriptors = _descriptors()
        self._state = _state()

    def found(self) -> str | None:
        """The first thing that is not as it was, in words."""
        end = time.monotonic() + _SECONDS
        while (
            left := [t for t in threading.enumerate() if t not in self._threads]
        ) and time.monotonic() < end:
            left[0].join(end - time.monotonic())
        if left:
            return f"the thread {left[0].name!r}"
        if _children() - self._children:
            return "a process of its own"
        if (opened := _descriptors() - self._descriptors) > _MOST_OPEN:
            return f"{opened} open descriptors"
        now = _state()
        return next((what for what, before in self._state.items() if now[what] != before), None)


def _state() -> dict[str, object]:
    """Takes about 0.1 ms. Values are compared; a stream, a handler and a policy by what they are."""
    root = logging.getLogger()
    return {
        "another folder": _folder(),
        "another environment": dict(os.environ),
        "another handler of a signal": {
            number: signal.getsignal(number) for number in signal.valid_signals()
        },
        "a timer that sends a signal": [signal.getitimer(kind) != (0.0, 0.0) for kind in _TIMERS],
        "another mask of signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "another event loop policy": asyncio.get_event_loop_policy(),
        "another umask": _umask(),
        "other limits of resources": {kind: _limit(kind) for kind in _LIMITS},
        "another priority": os.getpriority(os.PRIO_PROCESS, 0),
        "another standard stream": [
            (stream, getattr(stream, "closed", None)) for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "another file behind a standard stream": [_file(number) for number in range(3)],
        "other settings of logging": (root.level, list(root.handlers), root.manager.disable),
        "another sys.path": list(sys.path),
        "another recursion limit": sys.getrecursionlimit(),
        "another default timeout of sockets": socket.getdefaulttimeout(),
    }


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _limit(kind: int) -> object:
    limit = resource.getrlimit(kind)
    return limit[1] if kind in _OURS else limit


def _file(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a quarter of the time
    except OSError:
        return 0


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _children() -> set[int]:
    found: set[int] = set()
    try:
        for thread in Path("/proc/self/task").iterdir():
            found |= set(map(int, (thread / "children").read_text().split()))
    except OSError:
        pass
    return found
