"""The consumer step that leaves messages on the broker while the pool is full."""

from __future__ import annotations

from types import MethodType
from typing import Any

from celery import bootsteps

EARLY_ACK_PREFETCH = 4  # enough to hide the way to the broker and back; what a full worker may sit on


class Intake(bootsteps.StartStopStep):  # type: ignore[misc]
    """Fetch a message only when the pool has room for it.

    Celery's prefetch count limits unacknowledged messages. With early acknowledgement a running task is no
    such message any more: a full worker would fetch as many again, and keep them from idle workers. Nor does
    the count know of slots that are held by something else than Celery tasks.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """Called at each connection to the broker, before the first message is asked for."""
        if not hasattr(c.pool, "has_room"):  # the app was used with our pool once, and is with another now
            return
        qos = getattr(c.task_consumer.channel, "qos", None)
        if qos is not None:
            _ask_pool(c, qos)
        elif not _acknowledges_late(c.app):
            _shorten_prefetch(c)


def _ask_pool(c: Any, qos: Any) -> None:
    """Kombu's own transports (Redis, memory) ask before each fetch."""
    within_prefetch = qos.can_consume

    def can_consume(_: Any) -> bool:
        return bool(c.pool.has_room(c.controller.max_concurrency) and within_prefetch())

    qos.can_consume = MethodType(can_consume, qos)


def _shorten_prefetch(c: Any) -> None:
    """RabbitMQ pushes up to the prefetch count: make it short, as messages are acknowledged on acceptance."""
    c.qos.value = min(c.qos.value, EARLY_ACK_PREFETCH)
    c.qos.set(c.qos.value)
    c._maximum_prefetch_restored = True  # or Celery grows it again after a lost connection


def _acknowledges_late(app: Any) -> bool:
    return any(task.acks_late for name, task in app.tasks.items() if not name.startswith("celery."))
