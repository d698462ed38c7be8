"""What an agent's code leaves in its process. A process in which anything is left is not given to another run."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final

#: How long threads have that are about to end, in seconds.
_SECONDS: Final = 0.3


class Leftovers:
    """Compares the process with what it was when this was made, before its first run."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._children = _children()
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
        now = _state()
        return next((what for what, before in self._state.items() if now[what] != before), None)


def _state() -> dict[str, object]:
    return {
        "another folder": _folder(),
        "another environment": dict(os.environ),
        "another handler of a signal": {
            number: signal.getsignal(number) for number in signal.valid_signals()
        },
        "another event loop policy": asyncio.get_event_loop_policy(),
    }


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
