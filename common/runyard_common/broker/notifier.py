"""The notifier: after a commit, wake some worker, because work waits.

One wake-up is for any number of tasks: a Celery message costs milliseconds, so wake-ups are bunched. One that
fails loses nothing: the scheduler's relay sends another for tasks that no worker has claimed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from celery import Celery

from runyard_common.broker.application import (
    DELIVER,
    FORMAT,
    WAKE,
    Probe,
    QueueNames,
    blocked,
    is_amqp,
    write,
)
from runyard_common.tracing import wake_ups as wake_up_spans
from runyard_common.values.outages import REASONS, Diagnosis, Outage, diagnose

logger = structlog.get_logger("runyard.notifier")

#: Least time between two wake-ups of one process, in seconds.
SPACING = 0.02
#: How long RabbitMQ may take to confirm a wake-up, in seconds.
CONFIRM_SECONDS: Final = 3.0
_WARN_EVERY: Final = 10.0


class BrokerNotifier:
    """Sends wake-ups on a thread of its own: callers never wait for the broker, nor fail with it."""

    def __init__(
        self,
        app: Celery,
        installation: Callable[[], str | None] | None = None,
    ) -> None:
        """`installation` looks up the id that the queues are named after, on the thread, until it is known; without
        it the queues have their common names."""
        self._app = app
        self._installation = installation
        self._type: str = app.conf.runyard_queue_type
        self._names: QueueNames | None = None if installation else QueueNames.of("", self._type)
        self._wanted = threading.Condition()
        self._runs = False
        self._deliveries = False
        self._closed = False
        self._warned = -_WARN_EVERY
        self._checking = threading.Lock()
        self._probe = Probe(app)
        #: What was wrong at the last wake-up or check; None while the broker works.
        self.trouble: Diagnosis | None = None
        self._thread = threading.Thread(target=self._loop, name="notifier", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Wake some worker because runs wait to be claimed."""
        with self._wanted:
            self._runs = True
            self._wanted.notify()

    def notify_deliveries(self) -> None:
        """Wake some worker because callbacks are due."""
        with self._wanted:
            self._deliveries = True
            self._wanted.notify()

    def check(self) -> Diagnosis | None:
        """Write to the broker, on the caller's thread; what is wrong with it, or None.

        One check at a time: while another one hangs, the last result is given.
        """
        if not self._checking.acquire(blocking=False):
            return self.trouble
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - each transport has errors of its own
            self.trouble = self._diagnose(error)
        else:
            self.trouble = None
        finally:
            self._checking.release()
        return self.trouble

    def close(self) -> None:
        """Send what was asked for, then end."""
        with self._wanted:
            self._closed = True
            self._wanted.notify()
        self._thread.join(5)
        self._probe.close()

    def _loop(self) -> None:
        closed = False
        while not closed:
            try:
                closed = self._turn()
            except Exception:
                # Every later wake-up of the process needs this thread.
                logger.exception("The notifier failed inside and goes on", action="notify")
                time.sleep(1)

    def _turn(self) -> bool:
        """Send what is wanted now, waiting for it; whether the notifier is closed."""
        with self._wanted:
            if not (self._runs or self._deliveries or self._closed):
                self._wanted.wait()
            runs, deliveries, self._runs, self._deliveries = self._runs, self._deliveries, False, False
            closed = self._closed
        if runs:
            self._send(WAKE)
        if deliveries:
            self._send(DELIVER)
        if (runs or deliveries) and not closed:
            time.sleep(SPACING)
        return closed

    def _send(self, task: str) -> None:
        try:
            names = self._queue_names()
            if names is None:
                return  # the database is not there yet; the relay sends it
            queue = names.runs if task == WAKE else names.deliveries
            options: dict[str, Any] = {"confirm_timeout": CONFIRM_SECONDS} if is_amqp(self._app) else {}
            self._app.send_task(
                task, args=[FORMAT], queue=queue, ignore_result=True, retry=False, expires=None, **options
            )
        except Exception as error:  # noqa: BLE001 - in any case the relay sends it later
            self.trouble = self._diagnose(error)
            self._warn(self.trouble)
            return
        self.trouble = None
        blocked(self._app).clear()
        if task == WAKE:
            wake_up_spans.sent("celery", "rabbitmq" if is_amqp(self._app) else "redis")

    def _queue_names(self) -> QueueNames | None:
        if self._names is None and self._installation is not None:
            try:
                found = self._installation()
            except Exception as error:  # noqa: BLE001 - the database is away
                logger.warning("A wake-up waits for the database", action="notify", error=str(error)[:200])
                return None
            self._names = QueueNames.of(found, self._type) if found else None
        return self._names

    def _write(self) -> None:
        try:
            write(self._app, (self._queue_names() or QueueNames.of("", self._type)).runs)
        except Exception:
            blocked(self._app).clear()  # a RabbitMQ that blocks answers this
            raise
        if is_amqp(self._app):
            self._probe.publish()
            if blocked(self._app).is_set():
                raise ConnectionError("connection blocked")

    def _diagnose(self, error: BaseException) -> Diagnosis:
        if blocked(self._app).is_set():
            return Diagnosis(Outage.BLOCKED, REASONS[Outage.BLOCKED])
        return diagnose(error)

    def _warn(self, trouble: Diagnosis) -> None:
        if time.monotonic() - self._warned > _WARN_EVERY:
            self._warned = time.monotonic()
            logger.warning(
                "The broker cannot be used; runs are stored and start when it is back, or an idle worker looks",
                action="notify",
                trouble=trouble.outage.value,
                reason=trouble.reason,
            )
