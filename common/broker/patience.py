"""A Celery worker's patience with a broker that is connected and not usable: full, read-only, loading."""

from __future__ import annotations

import time
from typing import Any, Final

from celery import bootsteps
from celery.utils.log import get_logger
from celery.worker.state import maybe_shutdown
from kombu.utils.functional import fxrange

from common.domain.outages import diagnose

logger = get_logger(__name__)

LONGEST_PAUSE: Final = 5.0


class WaitForBroker(bootsteps.StartStopStep):  # type: ignore[misc]
    """Hold the consumer's start until a write to the broker succeeds.

    Without it Celery reconnects at once after each refused write, five times a second and without end.
    """

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, c: Any) -> None:
        """Called at each connection to the broker, before anything is declared on it."""
        for pause in fxrange(1.0, LONGEST_PAUSE, 1.0, repeatlast=True):
            maybe_shutdown()
            try:
                self._write(c)
                return
            except c.connection_errors:
                raise
            except c.channel_errors as error:
                logger.warning(
                    "The broker cannot be used: %s. Trying again in %s s", diagnose(error).reason, pause
                )
            until = time.monotonic() + pause
            while time.monotonic() < until:
                maybe_shutdown()
                time.sleep(0.2)

    @staticmethod
    def _write(c: Any) -> None:
        with c.connection.channel() as channel:
            for queue in c.app.amqp.queues.consume_from.values():
                queue(channel).declare()
