"""A shutdown that needs no broker.

Celery says goodbye to its broker before it asks the pool to drain, on the main thread. A broker that is frozen or
blocked does not answer, and would hold the worker until somebody kills it, with all its runs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from celery.signals import worker_shutting_down
from celery.utils.log import get_logger

from runyard_workers.pool import hub

logger = get_logger("celery.pool")

#: What the main thread has to begin the drain after SIGTERM, and to end after the drain, in seconds.
BEGIN_SECONDS: Final = 2.0
END_SECONDS: Final = 6.0
_POLL_SECONDS: Final = 0.05


class Drains(Protocol):
    """The pool, as far as this is concerned. All of it may be called from any thread."""

    @property
    def draining(self) -> bool:
        """Whether the drain has begun."""

    def begin_drain(self) -> None:
        """Begin it, if it has not."""

    def drained(self) -> bool:
        """Whether it is done."""


class Leaving:
    """Watches over the shutdowns of this process."""

    def __init__(
        self, pool: Drains, seconds: Callable[[], float | None], end: Callable[[int], Any] = os._exit
    ):
        """`seconds` tells how long a drain may take, None without a bound; `end` ends the process at once."""
        self._pool = pool
        self._seconds = seconds
        self._end = end
        self._begun = False
        worker_shutting_down.connect(self._watch)

    def _watch(self, how: str = "Warm", exitcode: int = 0, **_: Any) -> None:
        """Called in the signal handler, on the main thread."""
        if how == "Warm" and not self._begun:
            self._begun = True
            threading.Thread(target=self._see_off, args=(exitcode,), name="leaving", daemon=True).start()

    def _see_off(self, exitcode: int) -> None:
        hub.wake()  # it sleeps on through a signal, for up to a second
        if not _within(BEGIN_SECONDS, lambda: self._pool.draining):
            logger.warning("The broker does not answer; the drain begins without it")
            self._pool.begin_drain()
        seconds = self._seconds()
        drained = _within(None if seconds is None else seconds + END_SECONDS, self._pool.drained)
        time.sleep(END_SECONDS)  # normally the main thread ends the process meanwhile
        logger.warning(
            "The broker does not answer; the worker ends without closing its connection, %s", _told(drained)
        )
        sys.stderr.flush()
        self._end(exitcode or 0)


def _told(drained: bool) -> str:
    return "with all its runs handed back" if drained else "and leaves runs to be rescued"


def _within(seconds: float | None, condition: Callable[[], bool]) -> bool:
    deadline = None if seconds is None else time.monotonic() + seconds
    while not condition():
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
