"""Rate limits of requests: so many in a moving minute for each caller and concrete route, counted in Redis.

Where Redis is away requests pass, and a warning is logged; where none is configured this process counts alone.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from redis.exceptions import RedisError

from runyard_api.access.failure_counts import BACKOFF_S, redis_storage

log = structlog.get_logger()

WINDOW: Final = 60
_WARN_EVERY: Final = 10.0


@dataclass(frozen=True, slots=True)
class RateStatus:
    """A caller's limit after a request. `remaining` and `reset_s` are None when Redis did not answer."""

    limit: int
    allowed: bool = True
    remaining: int | None = None
    reset_s: int | None = None

    def headers(self) -> dict[str, str]:
        """RateLimit and RateLimit-Policy, as the IETF draft has them."""
        found = {"ratelimit-policy": f"{self.limit};w={WINDOW}"}
        if self.remaining is not None:
            found["ratelimit"] = f"limit={self.limit}, remaining={self.remaining}, reset={self.reset_s}"
        return found


class RateLimits:
    """Counts requests. Belongs to one event loop; `redis_url` may be empty."""

    def __init__(self, redis_url: str) -> None:
        self._storage: MemoryStorage | RedisStorage = (
            redis_storage(redis_url, "runyard:rates") if redis_url else MemoryStorage()
        )
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._away_until = 0.0
        self._warned_at = -_WARN_EVERY

    async def hit(self, who: str, route: str, limit: int) -> RateStatus:
        """Count one request of `who` on `route` (method and concrete path); `limit` is per minute."""
        if time.monotonic() < self._away_until:
            return RateStatus(limit)
        item = RateLimitItemPerSecond(limit, WINDOW)
        try:
            allowed = await self._limiter.hit(item, who, route)
            stats = await self._limiter.get_window_stats(item, who, route)
        except (RedisError, StorageError, OSError) as error:
            self._fail_open(error)
            return RateStatus(limit)
        reset = min(WINDOW, max(1, math.ceil(stats.reset_time - time.time())))
        return RateStatus(limit, allowed, int(stats.remaining) if allowed else 0, reset)

    def _fail_open(self, error: Exception) -> None:
        now = time.monotonic()
        self._away_until = now + BACKOFF_S
        if now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            log.warning(
                "Requests are not counted: Redis does not answer, so rate limits let all callers pass.",
                action="rate_limit", reason=str(error) or type(error).__name__,
            )  # fmt: skip

    async def close(self) -> None:
        if isinstance(self._storage, RedisStorage):
            client: Any = self._storage.bridge
            await client.storage.aclose(close_connection_pool=True)
