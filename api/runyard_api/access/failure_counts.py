"""Counts of failed sign-ins and the pauses that follow: in Redis for all processes, in this one within bounds.

Both are always counted: while Redis is away, this process's own counts go on.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from limits.aio.storage import RedisStorage
from limits.errors import StorageError
from redis.exceptions import RedisError

from runyard_common.stream.clients import connect_async

log = structlog.get_logger()

#: Subjects that one process counts at most; the one that failed longest ago is dropped first.
MOST_COUNTED: Final = 50_000
#: How long Redis may take to answer, and how long it is left alone after it did not, in seconds.
PATIENCE: Final = 0.5
BACKOFF_S: Final = 2.0
_WARN_EVERY: Final = 10.0


class FailureCounts(Protocol):
    """Failures by subject. Times are seconds."""

    async def add(self, subject: str, window_s: float) -> int:
        """Count a failure; how many there are since the first within `window_s`."""

    async def pause(self, subject: str, seconds: float) -> None:
        """Refuse the subject for so long, unless it is refused already."""

    async def paused_s(self, subject: str) -> float:
        """How long the subject is still refused; 0 when it is not."""

    async def clear(self, subject: str) -> None:
        """Forget the subject's failures and its pause."""

    async def close(self) -> None:
        """Close what is open."""


class LocalCounts:
    """Counts of this process. `clock` gives seconds that never go back."""

    def __init__(self, most: int = MOST_COUNTED, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._found: OrderedDict[str, list[float]] = (
            OrderedDict()
        )  # subject -> count, count's end, pause's end

    def __len__(self) -> int:
        return len(self._found)

    async def add(self, subject: str, window_s: float) -> int:
        now = self._clock()
        entry = self._found.setdefault(subject, [0, now + window_s, 0.0])
        if entry[1] <= now:
            entry[0], entry[1] = 0, now + window_s
        entry[0] += 1
        self._found.move_to_end(subject)
        while len(self._found) > self._most:
            self._found.popitem(last=False)
        return int(entry[0])

    async def pause(self, subject: str, seconds: float) -> None:
        entry, now = self._found.get(subject), self._clock()
        if entry is not None and entry[2] <= now:
            entry[2] = now + seconds

    async def paused_s(self, subject: str) -> float:
        entry = self._found.get(subject)
        return 0.0 if entry is None else max(0.0, entry[2] - self._clock())

    async def clear(self, subject: str) -> None:
        self._found.pop(subject, None)

    async def close(self) -> None:
        """See `FailureCounts.close`."""


def redis_storage(redis_url: str, prefix: str) -> RedisStorage:
    """What counts in Redis under keys with this prefix. Close it by its client, with the pool."""
    client = connect_async(redis_url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
    options: dict[str, Any] = {"connection_pool": client.connection_pool}
    return RedisStorage(
        "async+redis://", implementation="redispy", key_prefix=prefix, wrap_exceptions=True, **options
    )


class RedisCounts:
    """Counts that all processes share; every key expires. While Redis is away nothing is counted or refused."""

    def __init__(self, redis_url: str) -> None:
        self._storage = redis_storage(redis_url, "runyard:sign-ins")
        self._away_until = 0.0
        self._warned_at = -_WARN_EVERY

    async def add(self, subject: str, window_s: float) -> int:
        """See `FailureCounts.add`; 0 while Redis is away."""
        return int(await self._try(lambda: self._storage.incr(f"failed:{subject}", math.ceil(window_s))))

    async def pause(self, subject: str, seconds: float) -> None:
        """See `FailureCounts.pause`. The key's life is the pause, and only its first increment sets that."""
        await self._try(lambda: self._storage.incr(f"paused:{subject}", math.ceil(seconds)))

    async def paused_s(self, subject: str) -> float:
        """See `FailureCounts.paused_s`; 0 while Redis is away."""
        key = f"paused:{subject}"
        if not await self._try(lambda: self._storage.get(key)):
            return 0.0
        return max(1.0, float(await self._try(lambda: self._storage.get_expiry(key))) - time.time())

    async def clear(self, subject: str) -> None:
        for kind in ("failed", "paused"):
            await self._try(lambda kind=kind: self._storage.clear(f"{kind}:{subject}"))  # type: ignore[misc]

    async def close(self) -> None:
        client: Any = self._storage.bridge
        await client.storage.aclose(close_connection_pool=True)

    async def _try(self, ask: Callable[[], Any]) -> Any:
        if time.monotonic() < self._away_until:
            return 0
        try:
            return await ask()
        except (RedisError, StorageError, OSError) as error:
            now = time.monotonic()
            self._away_until = now + BACKOFF_S
            if now - self._warned_at >= _WARN_EVERY:
                self._warned_at = now
                log.warning(
                    "Failed sign-ins are counted by this process alone: Redis does not answer.",
                    action="sign_in", reason=str(error) or type(error).__name__,
                )  # fmt: skip
            return 0
