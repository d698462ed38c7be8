"""A cure for kombu 5.7: its worker dies when Redis restarts under a message that is yet to be acked."""

from __future__ import annotations

from functools import wraps
from typing import Any

import redis
from kombu.transport.redis import Channel


def patch_kombu_redis() -> None:
    """Make an acknowledgement on a lost connection the connection error that Celery recovers from.

    A message acknowledged after its channel was closed asks the channel for a new connection pool. The
    channel has forgotten the parameters by then, and kombu raises AttributeError, which ends the worker. As a
    ConnectionError it is logged, and the broker delivers the message again. A second call does nothing.
    """
    original: Any = Channel._connparams
    if getattr(original, "__wrapped__", None) is not None:
        return

    @wraps(original)
    def connection_parameters(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise redis.exceptions.ConnectionError("the channel's connection to the broker is lost")
        return original(self, *args, **kwargs)

    Channel._connparams = connection_parameters  # type: ignore[method-assign]
