"""Requests a minute of each caller: an organisation on every surface together, an address where no key is asked for. So
many, loosely, at the price of a look-up.

Each process counts by itself, and adds its count to Redis once a second, where it learns those of the others. So the
processes together let pass at most what comes within a second more. Where Redis is away, or none is given, each process
counts alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from redis.exceptions import RedisError

from runyard_common.stream.clients import connect_async
from runyard_common.values.errors import TooManyRequests

log = structlog.get_logger()

WINDOW: Final = 60
EVERY: Final = 1.0
_PATIENCE: Final = 0.5
_WARN_EVERY: Final = 10.0
_PREFIX: Final = "runyard:rates:organisation"
#: Callers counted at once; the one that came first goes first.
_MOST_CALLERS: Final = 50_000


@dataclass(slots=True)
class _Count:
    """What one caller asked in a window of wall time, and in the one before."""

    window: int
    before: int = 0
    shared: int = 0  # of all processes, as Redis knew it last
    unsent: int = 0  # of this process since

    @property
    def here(self) -> int:
        """In this window."""
        return self.shared + self.unsent

    def roll(self, window: int) -> None:
        """Go on to a later window."""
        self.before = self.here if window == self.window + 1 else 0
        self.window, self.shared, self.unsent = window, 0, 0


class RequestRates:
    """Belongs to one event loop. `most` is requests a minute, 0 for no limit; `exempt` is never limited; `kind` is what
    callers are called in refusals."""

    def __init__(
        self,
        redis_url: str,
        most: int,
        exempt: str = "",
        kind: str = "The organisation",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._most = most
        self._exempt = exempt
        self._kind = kind
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._redis = (
            connect_async(redis_url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
            if redis_url and most
            else None
        )
        self._sharing: asyncio.Task[None] | None = None
        self._warned_at = -_WARN_EVERY

    def start(self) -> None:
        if self._most:
            self._sharing = asyncio.create_task(self._share_for_ever(), name="share-rates")

    def check(self, caller: str) -> None:
        """Count one request; `TooManyRequests` rate_limited beyond the limit. A refused one does not count."""
        if not self._most or caller == self._exempt:
            return
        now = self._clock()
        window = int(now) // WINDOW
        count = self._counts.get(caller)
        if count is None:
            if len(self._counts) >= _MOST_CALLERS:
                del self._counts[next(iter(self._counts))]
            count = self._counts[caller] = _Count(window)
        elif count.window != window:
            count.roll(window)
        if count.before * (1 - now % WINDOW / WINDOW) + count.here >= self._most:
            raise TooManyRequests(
                f"{self._kind} asks more than {self._most:,} times in a minute; try again later.",
                retry_after=_wait(count, now % WINDOW, self._most),
                limit=self._most,
            )
        count.unsent += 1

    async def share(self) -> None:
        """Add what was counted here to Redis, and learn what the other processes counted. Raises its errors."""
        window = int(self._clock()) // WINDOW
        self._counts = {org: count for org, count in self._counts.items() if count.window >= window - 1}
        for count in self._counts.values():
            if count.window != window:
                count.roll(window)
        if self._redis is None or not self._counts:
            return
        sent = {org: count.unsent for org, count in self._counts.items()}
        async with self._redis.pipeline(transaction=False) as pipe:
            for org, unsent in sent.items():
                key = f"{_PREFIX}:{org}:{window}"
                pipe.incrby(key, unsent)
                pipe.expire(key, 2 * WINDOW + 10)
                pipe.get(f"{_PREFIX}:{org}:{window - 1}")
            answers = await pipe.execute()
        for (org, unsent), shared, before in zip(sent.items(), answers[::3], answers[2::3], strict=True):
            known = self._counts.get(org)
            if known is not None and known.window == window:
                known.shared, known.before = int(shared), max(known.before, int(before or 0))
                known.unsent -= unsent

    async def _share_for_ever(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.share()
            except (RedisError, OSError) as error:
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            log.warning(
                "Redis does not answer: each api process counts an organisation's requests alone.",
                action="rate_limit", reason=str(error) or type(error).__name__,
            )  # fmt: skip

    async def close(self) -> None:
        if self._sharing is not None:
            self._sharing.cancel()
        if self._redis is not None:
            await self._redis.aclose()


def _wait(count: _Count, elapsed: float, most: int) -> int:
    """Seconds until the next request passes, if none comes before; at least 1."""
    if count.here < most:  # the window before weighs less from second to second
        until = WINDOW * (1 - (most - count.here) / count.before) - elapsed
    else:
        until = WINDOW - elapsed + WINDOW * (1 - most / count.here)
    return max(1, math.floor(until) + 1)
