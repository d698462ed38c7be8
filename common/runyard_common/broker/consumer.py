"""A Celery consumer that waits for its broker, survives malformed messages, and takes no
wake-up that it cannot use."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final

import structlog
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from runyard_common.broker.application import is_amqp
from runyard_common.broker.redis_patch import MALFORMED
from runyard_common.values.outages import diagnose

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

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Without the 28 queues that Celery makes for tasks with a countdown beside quorum queues: there are none."""

        default_steps: ClassVar = [
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]

    _pause: float = _FIRST_PAUSE
    _failed_at: float = 0.0
    #: Whether the worker has a use for a wake-up now; while it has none, wake-ups are for other workers.
    has_free_slot: Callable[[], bool] = staticmethod(lambda: True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As Celery's, with one message at a time: what a full worker has fetched and cannot take, others wait for.

        The heartbeats by which Flower lists it are sent where remote control is on, and to a Redis only: each waits, on
        the thread that serves the connection, for a RabbitMQ that may not confirm it (blocked, frozen).
        """
        self._parked: deque[Any] = deque()
        app = kwargs["app"]
        self._acknowledges = is_amqp(app)
        quiet = not app.conf.worker_enable_remote_control or is_amqp(app)
        super().__init__(*args, **kwargs | {"without_heartbeat": quiet, "initial_prefetch_count": 1})

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Called when the broker could not be connected to."""
        self._wait(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Called when a connection broke, or a command was refused on it."""
        super().on_connection_error_after_connected(exc)
        self._wait(exc)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Celery's, which an odd header or body does not end. A wake-up that is lost so is sent again.

        Celery asks for it at each connection, before the first message.
        """
        handle = super().create_task_handler(*args, **kwargs)
        self._parked.clear()  # what a lost connection brought RabbitMQ delivers again, and the relay sends again
        qos = getattr(self.task_consumer.channel, "qos", None)
        if qos is not None:  # kombu's own transports (Redis) ask before each fetch; RabbitMQ pushes
            within_prefetch = qos.can_consume
            qos.can_consume = lambda: self.has_free_slot() and within_prefetch()

        def receive(message: Any) -> None:
            if not self.has_free_slot():
                self._parked.append(message)  # RabbitMQ gives it to others if this worker ends
                return
            try:
                handle(message)
            except MALFORMED as error:
                self._drop(message, error)

        self._receive = receive
        return receive

    def call_soon_ack(self, acknowledge: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Acknowledge at once: all is on one thread here. Celery would leave it to the hub, which may first wait for
        RabbitMQ to send something, and that waits for this. A Redis keeps no message that was handed out."""
        if self._acknowledges:
            acknowledge(*args, **kwargs)

    def deliver_parked(self) -> None:
        """There is capacity again. Call it by `call_soon`, which also makes a sleeping consumer look."""
        while self._parked and self.has_free_slot():
            self._receive(self._parked.popleft())

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Called for a body that is not what its headers say."""
        self._drop(message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Called for what is no task at all."""
        self._drop(message, ValueError("it names no task"))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Called for a task that this worker does not have."""
        self._drop(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Called for a task whose message Celery refuses."""
        self._drop(message, exc)

    def _drop(self, message: Any, error: Exception) -> None:
        logger.warning(
            "A message on a queue is not one of Runyard's and was dropped. Check who else can write to this broker.",
            action="drop",
            error=f"{type(error).__name__}: {str(error)[:200]}",
        )
        if self._acknowledges and not message.acknowledged:
            message.reject_log_error(logger, self.connection_errors)

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
