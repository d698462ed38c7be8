"""Signals as something to wait for, so that one thread can watch its children and its user."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator

STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class Signals:
    """Signals that arrived since the last `wait`."""

    def __init__(self, pipe: int, wakes: int) -> None:
        self._pipe = pipe
        self._wakes = wakes

    def wake(self) -> None:
        """End a `wait` early, from any thread; also before it begins."""
        with contextlib.suppress(OSError):  # full: it ends anyway; or closed
            os.write(self._wakes, b"\0")  # no signal has this number

    def wait(self, seconds: float) -> list[int]:
        """Sleep until a signal comes (also a child's end) or the time is over; the signals, oldest first."""
        if not select.select([self._pipe], [], [], seconds)[0]:
            return []
        return list(os.read(self._pipe, 4096))


@contextlib.contextmanager
def caught() -> Iterator[Signals]:
    """Catch the signals of a supervisor in this (main) thread, and give them back afterwards."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = {number: signal.signal(number, lambda *_: None) for number in (*STOP, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield Signals(read, write)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)
