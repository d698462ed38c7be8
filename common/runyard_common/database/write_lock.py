"""A fair queue for SQLite's one write lock, over all threads and processes.

SQLite itself lets waiting writers try again after pauses of up to 100 ms, so that one that has waited for a second
loses to a newcomer. Here the next writer holds the queue's lock while it waits for the write lock, and no other tries
for that meanwhile. It is a courtesy: without the files, or beyond `PATIENCE`, SQLite's own lock decides alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: The longest wait, in seconds: a process may be suspended while it holds the lock.
PATIENCE: Final = 10.0
#: How often a lock is tried, in seconds: often at first, as most transactions take a few milliseconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0003, 0.003


class FairWriteLock:
    """The write lock of one database file. Safe to use from any thread, process and forked child."""

    def __init__(self, path: str) -> None:
        """`path` is the database's; two empty files are kept next to it."""
        self._queue = f"{path}-queue.lock"
        self._write = f"{path}-write.lock"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Wait for the lock, and hold it while the block runs."""
        end = time.monotonic() + PATIENCE
        queue = _lock(self._queue, end)
        try:
            write = _lock(self._write, end)
        finally:
            _unlock(queue)
        try:
            yield
        finally:
            _unlock(write)


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
    if descriptor is None:
        return
    try:
        # A child that was forked meanwhile has the same open file: closing ours alone would leave it the lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
