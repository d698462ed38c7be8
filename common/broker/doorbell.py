"""The doorbell: after a commit, tell some worker that work waits.

One ring stands for any number of tasks: a Celery message costs milliseconds, so rings are bunched. A ring that
fails loses nothing: its outbox row stays, and the scheduler's relay rings again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from celery import Celery

from common.broker.application import DELIVER, DELIVERIES, FORMAT, RUNS, WAKE

logger = structlog.get_logger("runyard.doorbell")

#: Least time between two rings of one process, in seconds.
SPACING = 0.02
#: How long rung outbox rows may gather before they are deleted together, in seconds.
FORGET_EVERY = 1.0


class Doorbell:
    """Rings on a thread of its own: callers never wait for the broker, nor fail with it."""

    def __init__(self, app: Celery, forget: Callable[[list[str]], None]) -> None:
        """`forget` deletes outbox rows that were rung."""
        self._app = app
        self._forget = forget
        self._wanted = threading.Condition()
        self._outbox: list[str] = []
        self._rung: list[str] = []
        self._runs = False
        self._deliveries = False
        self._closed = False
        self._warned = 0.0
        self._thread = threading.Thread(target=self._loop, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, outbox_id: str | None = None) -> None:
        """Ask for a ring; `outbox_id` is forgotten once it has rung."""
        with self._wanted:
            self._runs = True
            if outbox_id is not None:
                self._outbox.append(outbox_id)
            self._wanted.notify()

    def ring_deliveries(self) -> None:
        """Tell some worker that callbacks are due."""
        with self._wanted:
            self._deliveries = True
            self._wanted.notify()

    def close(self) -> None:
        """Ring what was asked for, then end."""
        with self._wanted:
            self._closed = True
            self._wanted.notify()
        self._thread.join(5)

    def _loop(self) -> None:
        forget_at = time.monotonic() + FORGET_EVERY
        while True:
            with self._wanted:
                if not (self._runs or self._deliveries or self._closed):
                    self._wanted.wait(FORGET_EVERY if self._rung else None)
                outbox, self._outbox = self._outbox, []
                runs, deliveries, self._runs, self._deliveries = self._runs, self._deliveries, False, False
                closed = self._closed
            if runs and self._send(WAKE, RUNS):
                self._rung.extend(outbox)
            if deliveries:
                self._send(DELIVER, DELIVERIES)
            if self._rung and (closed or time.monotonic() >= forget_at):
                self._forget_rung()
                forget_at = time.monotonic() + FORGET_EVERY
            if closed:
                return
            if runs or deliveries:
                time.sleep(SPACING)

    def _send(self, task: str, queue: str) -> bool:
        try:
            self._app.send_task(
                task, args=[FORMAT], queue=queue, ignore_result=True, retry=False, expires=None
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the relay rings later
            if time.monotonic() - self._warned > 10:
                self._warned = time.monotonic()
                logger.warning(
                    "The broker does not answer; runs are stored and start when it is back",
                    action="ring",
                    error=str(error)[:200],
                )
            return False
        return True

    def _forget_rung(self) -> None:
        rung, self._rung = self._rung, []
        try:
            self._forget(rung)
        except Exception as error:  # noqa: BLE001 - the rows stay, and ring again
            logger.warning(
                "Rung doorbells could not be forgotten; they will ring twice", error=str(error)[:200]
            )
