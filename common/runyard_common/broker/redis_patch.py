"""Cures for kombu 5.7 on Redis, whose worker dies of a restart under a message, and of a message that is none."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from queue import Empty
from typing import Any, Final

import redis
import structlog
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.transport.redis import Channel, QoS
from kombu.utils import json

logger = structlog.get_logger("runyard.broker")

#: What reading a malformed message raises, as kombu takes its parts for granted.
MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class MalformedMessage(Exception):
    """An item of a queue is not a message."""


class _Message(virtual.Message):
    """A message whose parts are what kombu and Celery take them for; else `MalformedMessage`."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            about = payload["properties"]
            place = about["delivery_info"]
            texts = [about["delivery_tag"], place["exchange"], place["routing_key"]]
            sound = all(isinstance(text, str) for text in texts) and isinstance(payload["headers"], dict)
            if not sound or not isinstance(place.get("priority", 0), int):
                raise MalformedMessage("its properties are not those of a message")
            super().__init__(payload, channel=channel, **kwargs)  # type: ignore[no-untyped-call]
        except MALFORMED as error:
            raise MalformedMessage(f"{type(error).__name__}: {str(error)[:200]}") from error


def patch_kombu_redis() -> None:
    """Repair what follows. A second call does nothing."""
    if Channel.Message is _Message:
        return
    _repair_lost_connections()
    _repair_malformed_messages()


def _repair_lost_connections() -> None:
    """Make an acknowledgement on a lost connection the connection error that Celery recovers from.

    A message acknowledged after its channel was closed asks the channel for a new connection pool. The
    channel has forgotten the parameters by then, and kombu raises AttributeError, which ends the worker. As a
    ConnectionError it is logged, and the broker delivers the message again.
    """
    original: Any = Channel._connparams

    @wraps(original)
    def connection_parameters(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise redis.exceptions.ConnectionError("the channel's connection to the broker is lost")
        return original(self, *args, **kwargs)

    Channel._connparams = connection_parameters  # type: ignore[method-assign]


def _repair_malformed_messages() -> None:
    """Drop what is not a message: one malformed list item ended every worker."""
    kombu_redis.loads = _checked(json.loads)  # type: ignore[attr-defined]
    Channel.Message = _Message
    for name in ("_brpop_read", "_get"):
        setattr(Channel, name, _dropping(getattr(Channel, name)))
    restore: Any = QoS.restore_by_tag

    @wraps(restore)
    def restore_by_tag(self: Any, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        try:
            restore(self, tag, client, leftmost)
        except (MalformedMessage, *MALFORMED) as error:
            _log_dropped(error)
            with self.channel.conn_or_acquire(client) as connection:  # or each look would meet it again
                connection.zrem(self.unacked_index_key, tag)
                connection.hdel(self.unacked_key, tag)

    QoS.restore_by_tag = restore_by_tag  # type: ignore[method-assign]


def _checked(original: Callable[..., Any]) -> Any:
    @wraps(original)
    def read(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except MALFORMED as error:
            raise MalformedMessage(f"{type(error).__name__}: {str(error)[:200]}") from error

    return read


def _dropping(original: Callable[..., Any]) -> Any:
    @wraps(original)
    def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except MalformedMessage as error:
            _log_dropped(error)
            raise Empty from None

    return receive


def _log_dropped(error: Exception) -> None:
    logger.warning(
        "An item of a queue is not a message and was dropped. Check who else can write to this broker.",
        action="drop",
        error=str(error)[:300],
    )
