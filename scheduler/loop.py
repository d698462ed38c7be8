"""One loop drives every duty, each in its rhythm; a duty that fails is logged and tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from scheduler.duties.duty import Duty

logger = structlog.get_logger("runyard.scheduler")


class Loop:
    """Runs duties until `stop`. A pass costs nothing when nothing is due."""

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._duties = list(duties)
        self._due = {duty.name: 0.0 for duty in duties}
        self._stop = threading.Event()

    def run(self) -> None:
        """Drive the duties until `stop` is called."""
        while not self._stop.is_set():
            self._stop.wait(self.tick())

    def stop(self) -> None:
        """End `run` after the duty under way. Safe in a signal handler."""
        self._stop.set()

    def tick(self) -> float:
        """Run what is due; seconds until the next duty is."""
        for duty in self._duties:
            if self._stop.is_set():
                break
            if time.monotonic() >= self._due[duty.name]:
                self._run(duty)
                self._due[duty.name] = time.monotonic() + duty.every
        return max(0.01, min(self._due.values(), default=1.0) - time.monotonic())

    def _run(self, duty: Duty) -> None:
        started = time.monotonic()
        try:
            done = duty.run_once()
        except Exception as error:  # noqa: BLE001 - one duty's fault must not end the others
            logger.warning("A duty failed; it is tried again", action=duty.name, error=str(error)[:300])
            return
        if done:
            logger.info(
                "A duty was done", action=duty.name, count=done, seconds=round(time.monotonic() - started, 3)
            )
