"""Turns at SQLite's one write lock, over all threads and processes: who came first does not wait longest.

SQLite itself lets waiting writers try again after pauses of up to 100 ms, so that one who has waited for a second
loses to one who has just come. Here the next in turn holds the gate while it waits for the room, and nobody else
tries for the room meanwhile. It is a courtesy: without the files, or beyond `PATIENCE`, SQLite's lock decides alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: The longest anybody waits for a turn, in seconds: a process may be suspended in the middle of its own.
PATIENCE: Final = 10.0
#: How often a lock is tried, in seconds: often at first, as most transactions take a few milliseconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0003, 0.003


class Turnstile:
    """The turns at one database file. Safe to use from any thread, process and forked child."""

    def __init__(self, path: str) -> None:
        """`path` is the database's; two empty files are kept beside it."""
        self._gate = f"{path}-gate"
        self._room = f"{path}-room"

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn, and have it while the block runs."""
        end = time.monotonic() + PATIENCE
        gate = _lock(self._gate, end)
        try:
            room = _lock(self._room, end)
        finally:
            _unlock(gate)
        try:
            yield
        finally:
            _unlock(room)


def _lock(path: str, end: float) -> int | None:
    """A descriptor that holds the file's lock; None where it cannot be had until `end` (monotonic)."""
    try:
        # One of its own each time: a lock belongs to its open file, so threads exclude one another too.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    pause = _FIRST_PAUSE
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            time.sleep(pause)  # not a blocking lock: that would wait for a suspended process for ever
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        except OSError:
            break
    os.close(descriptor)
    return None


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
