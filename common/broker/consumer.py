"""A Celery consumer that waits for its broker, whatever is wrong with it."""

from __future__ import annotations

import time
from typing import Final

import structlog
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from common.domain.outages import diagnose

logger = structlog.get_logger("runyard.broker")

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
#: A connection that lasted this long was a good one: the next pause is short again, in seconds.
_GOOD_AFTER: Final = 10.0


class PatientConsumer(Consumer):  # type: ignore[misc]
    """Pauses between attempts, and names what is wrong in one line.

    Celery waits for a server that refuses connections. To one that accepts them and refuses commands (full,
    read-only, loading) it comes back at once, five times a second, with a traceback each.
    """

    _pause: float = _FIRST_PAUSE
    _failed_at: float = 0.0

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Called when the broker could not be connected to."""
        self._wait(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Called when a connection broke, or a command was refused on it."""
        super().on_connection_error_after_connected(exc)
        self._wait(exc)

    def _wait(self, error: BaseException) -> None:
        now = time.monotonic()
        good = now - self._failed_at > self._pause + _GOOD_AFTER
        self._pause = _FIRST_PAUSE if good else min(2 * self._pause, _LONGEST_PAUSE)
        trouble = diagnose(error)
        logger.warning(
            "The broker cannot be used; the worker goes on when it is back",
            action="consume",
            trouble=trouble.outage.value,
            reason=trouble.reason,
            retry_seconds=self._pause,
        )
        while time.monotonic() < now + self._pause:
            maybe_shutdown()
            time.sleep(0.1)
        self._failed_at = time.monotonic()
