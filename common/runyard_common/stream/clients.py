"""Clients of a Redis or Valkey by its URL, which may name Sentinels in the server's place.

A client of Sentinels asks them for the primary at each new connection, so it follows a failover by itself.
"""

from __future__ import annotations

from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from runyard_common.values import broker_urls, primaries
from runyard_common.values.outages import Diagnosis, Outage, diagnose

#: How long one Sentinel may take to connect and to answer at most, in seconds; then the next is asked.
_PATIENCE: Final = 1.0


class _Pool(redis.sentinel.SentinelConnectionPool):
    """Closes the connections to the Sentinels with its own."""

    def get_master_address(self) -> tuple[str, int]:
        host, port = super().get_master_address()  # type: ignore[no-untyped-call]
        primaries.note(str(host), int(port))
        return host, port

    def close(self) -> None:
        super().close()
        self.sentinel_manager.close()


class _AsyncPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """Closes the connections to the Sentinels with its own."""

    async def get_master_address(self) -> tuple[str, int]:
        host, port = await super().get_master_address()  # type: ignore[no-untyped-call]
        primaries.note(str(host), int(port))
        return host, port

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def connect(url: str, **options: Any) -> redis.Redis:
    """A client; it connects when it is first used. `options` are redis-py's, of the connections to the server."""
    asked = broker_urls.sentinels(url)
    if asked is None:
        return redis.Redis.from_url(url, **options)
    manager: Any = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        asked.addresses, sentinel_kwargs=_patience(asked, options, Retry(NoBackoff(), 0))
    )
    found: redis.Redis = manager.master_for(
        asked.master_name, connection_pool_class=_Pool, **asked.options(), **options
    )
    return found


def connect_async(url: str, **options: Any) -> redis.asyncio.Redis:
    """The same for one event loop."""
    asked = broker_urls.sentinels(url)
    if asked is None:
        return redis.asyncio.Redis.from_url(url, **options)
    manager: Any = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        asked.addresses, sentinel_kwargs=_patience(asked, options, AsyncRetry(NoBackoff(), 0))
    )
    found: redis.asyncio.Redis = manager.master_for(
        asked.master_name, connection_pool_class=_AsyncPool, **asked.options(), **options
    )
    return found


def examine(url: str, error: Exception) -> Diagnosis:
    """What is wrong with a Redis whose client raised `error`.

    Where that is only that no Sentinel named a primary, each is asked why.
    """
    found, asked = diagnose(error), broker_urls.sentinels(url)
    if found.outage is not Outage.NO_PRIMARY or asked is None:
        return found
    for host, port in asked.addresses:
        with redis.Redis(host, port, **_patience(asked, {}, Retry(NoBackoff(), 0))) as sentinel:
            try:
                known = sorted(sentinel.sentinel_masters())
            except redis.RedisError as refused:
                if (why := diagnose(refused)).outage not in (Outage.AWAY, Outage.NO_PRIMARY):
                    return why
            else:
                if asked.master_name not in known:
                    names = ", ".join(known) or "none"
                    return Diagnosis(
                        found.outage, f"its Sentinels have no master_name={asked.master_name}, but {names}"
                    )
    return found


def _patience(asked: broker_urls.Sentinels, options: dict[str, Any], retry: object) -> dict[str, Any]:
    """Redis' client would ask a Sentinel that is away three times, with seconds between; there are others to ask."""
    most = min(_PATIENCE, options.get("socket_connect_timeout") or _PATIENCE)
    timeouts = {"socket_timeout": most, "socket_connect_timeout": most}
    return asked.sentinel_options() | timeouts | {"retry": retry}
