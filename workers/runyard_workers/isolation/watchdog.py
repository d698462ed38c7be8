"""The watchdog: notices from outside that a run does not give the event loop back, and ends the process.

Nothing in the process can be saved then but by leaving it: the loop cannot be taken from the code that runs on it. So
the guilty run is failed, its neighbours are handed on at no cost, and the worker's supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import structlog

from runyard_workers.isolation.loop_guard import LoopGuard

#: The exit status of a process whose event loop was blocked.
BLOCKED = 71
#: A process in which not even this thread gets on (native code that keeps the interpreter's lock) is ended by a
#: timer below the interpreter after so many times the limit, and no sooner than the second number, in seconds. A
#: process that was suspended for that long ends so too when it is resumed: others have its runs by then.
_HARD_TIMES, _HARD_SECONDS = 3, 10.0
_LONGEST_STACK = 40
#: What the loop may spend in imports, in seconds. The first import of a large library takes ten and more where all
#: processors are busy: that is slow, and passes.
IMPORT_SECONDS = 60.0
_IMPORT_FILE = "<frozen importlib._bootstrap>"
_CALLBACK = asyncio.Handle._run.__code__

logger = structlog.get_logger("runyard.watchdog")


@dataclass(frozen=True, slots=True)
class Blocked:
    """What the watchdog found: the run that holds the loop, if it is known, since when, and where its code is."""

    run: str | None
    seconds: float
    stack: str


class Watchdog:
    """Asks the loop for a sign of life, on a thread of its own, until stopped."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        guard: LoopGuard,
        limit_seconds: float,
        on_blocked: Callable[[Blocked], None],
        *,
        hard: bool = False,
        import_seconds: float = IMPORT_SECONDS,
    ) -> None:
        """`on_blocked` is called on the watchdog's thread, once: after `limit_seconds`, to which time in an import
        does not count, and of that after `import_seconds`. With `hard` a process that cannot even do that is
        ended. Create it on the loop's thread."""
        self._loop = loop
        self._guard = guard
        self._limit = limit_seconds
        self._interval = min(1.0, limit_seconds / 8)
        self._import_limit = max(limit_seconds, import_seconds)
        self._on_blocked = on_blocked
        self._hard = hard
        self._loop_thread = threading.get_ident()
        self._answered = threading.Event()
        self._asked_at = 0.0
        self._lag = 0.0
        self._silent = 0.0  # seconds without an answer
        self._importing = 0.0  # those of them that went into imports
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._arm_timer()  # before any run can keep the watchdog's thread from it
        self._thread.start()

    def _arm_timer(self) -> None:
        if self._hard:
            faulthandler.dump_traceback_later(
                max(_HARD_TIMES * self._limit, _HARD_SECONDS), exit=True, file=2
            )

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)  # it arms the timer, so it ends before the timer is taken away
        if self._hard:
            faulthandler.cancel_dump_traceback_later()

    @property
    def lag_s(self) -> float:
        """How late the loop is, in seconds: the last answer's delay, or for how long it has given none."""
        return max(self._lag, self._silent)

    def _watch(self) -> None:
        self._ask()
        before = time.monotonic()
        while not self._stop.wait(self._interval):
            self._arm_timer()
            now = time.monotonic()
            # A pause of the whole process (a suspended machine, SIGSTOP) is no fault of the loop's: it counts as
            # one interval.
            passed, before = min(now - before, 2 * self._interval), now
            if self._answered.is_set():
                self._silent = self._importing = 0.0
                self._ask()
                continue
            self._silent += passed
            self._note_import(passed)
            if self._silent - self._importing >= self._limit or self._importing >= self._import_limit:
                self._on_blocked(Blocked(self._guard.executing, self._silent, self._stack()))
                return

    def _note_import(self, passed: float) -> None:
        module = _imported_in(sys._current_frames().get(self._loop_thread))
        if module is None:
            return
        before, self._importing = self._importing, self._importing + passed
        if before < self._limit <= self._importing:
            logger.warning(
                "A run imports on the event loop, and every run beside it waits; import at the top of its module",
                action="import", task=self._guard.executing, module=module, seconds=round(self._importing, 1),
            )  # fmt: skip

    def _ask(self) -> None:
        self._answered.clear()
        self._asked_at = time.monotonic()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._lag = time.monotonic() - self._asked_at
        self._answered.set()

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)
        lines = traceback.format_stack(frame)[-_LONGEST_STACK:] if frame is not None else []
        return "".join(lines)


def _imported_in(frame: FrameType | None) -> str | None:
    """The module whose import the code is in, the innermost; None where it is in none."""
    while frame is not None and frame.f_code is not _CALLBACK:  # what is below that is not the run's
        if frame.f_code.co_filename == _IMPORT_FILE and frame.f_code.co_name == "_find_and_load":
            return str(frame.f_locals.get("name", "?"))
        frame = frame.f_back
    return None


def leave(status: int) -> None:
    """End this process now: nothing that waits for the loop, or that agent code registered, may hold it up."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(status)
