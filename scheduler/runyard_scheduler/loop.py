"""The loop drives every duty, each in its rhythm; a duty that fails is logged and tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from runyard_common.metrics.points import POINTS
from runyard_scheduler.duties import Duty, Punctual

logger = structlog.get_logger("runyard.scheduler")

#: How long `run` waits for a duty under way on another thread when it ends, in seconds.
PATIENCE = 10.0
#: Least pause after a duty failed, in seconds.
AFTER_FAULT = 1.0
#: A duty that is under way for longer, in seconds, is stuck: no statement takes as long, and none works in one go.
STUCK = 600.0


class Loop:
    """Runs duties until `stop`: punctual ones each on a thread, the others in turn on the caller's."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._punctual = [duty for duty in duties if isinstance(duty, Punctual)]
        self._chores = [duty for duty in duties if not isinstance(duty, Punctual)]
        self._due = {duty.name: 0.0 for duty in duties}
        self._faults: dict[str, str] = {}  # of duties that failed at their last run
        self._stop = threading.Event()
        self._rounds: dict[str, float] = {}  # when each thread last came around

    def run(self) -> None:
        """Drive the duties until `stop` is called."""
        threads = [
            threading.Thread(target=self._drive, args=([duty],), name=duty.name, daemon=True)
            for duty in self._punctual
        ]
        for thread in threads:
            thread.start()
        self._drive(self._chores)
        for thread in threads:
            thread.join(PATIENCE)

    def stop(self) -> None:
        """End `run` after the duties under way. Safe in a signal handler."""
        self._stop.set()

    @property
    def is_alive(self) -> bool:
        """Whether every thread comes around: none has ended, and no duty is stuck. True before `run`."""
        oldest = min(list(self._rounds.values()), default=time.monotonic())
        return self._stop.is_set() or time.monotonic() - oldest < STUCK

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def _drive(self, duties: Sequence[Duty]) -> None:
        driver = threading.current_thread().name
        while not self._stop.is_set():
            self._rounds[driver] = time.monotonic()
            self._stop.wait(self.tick(duties))

    def tick(self, duties: Sequence[Duty]) -> float:
        """Run those of these duties that are due; seconds until the next one is."""
        for duty in duties:
            if self._stop.is_set():
                break
            if time.monotonic() >= self._due[duty.name]:
                pause = _pause(duty) if self._run(duty) else max(duty.every, AFTER_FAULT)
                self._due[duty.name] = time.monotonic() + pause
        next_due = min((self._due[duty.name] for duty in duties), default=time.monotonic() + 1.0)
        return max(0.001, next_due - time.monotonic())

    def _run(self, duty: Duty) -> bool:
        started = time.monotonic()
        try:
            done = duty.run_once()
        except Exception as error:  # noqa: BLE001 - one duty's fault must not end the others
            fault = str(error)[:300]
            if self._faults.get(duty.name) != fault:
                logger.warning("A duty failed; it is tried again", action=duty.name, error=fault)
            self._faults[duty.name] = fault
            self._note(duty, started, worked=False)
            return False
        if self._faults.pop(duty.name, None) is not None:
            logger.info("A duty works again", action=duty.name)
        self._note(duty, started, worked=True)
        if done:
            logger.info(
                "A duty was done", action=duty.name, count=done, seconds=round(time.monotonic() - started, 3)
            )
        return True

    @staticmethod
    def _note(duty: Duty, started: float, worked: bool) -> None:
        if (note := POINTS.duty) is not None:
            note(duty.name, time.monotonic() - started, worked)


def _pause(duty: Duty) -> float:
    due_in = duty.due_in if isinstance(duty, Punctual) else None
    return duty.every if due_in is None else max(0.0, min(duty.every, due_in))
