"""arq: a queue of asyncio on Redis, whose worker looks for jobs every half second."""

from __future__ import annotations

import asyncio
from typing import Any

import arq
from arq.connections import RedisSettings

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.peer import Peer


async def work(ctx: Any, seconds: float) -> None:
    """The handler."""
    site.mark()
    if seconds:
        await asyncio.sleep(seconds)


async def worker() -> None:
    """Work off the queue."""
    settings = RedisSettings.from_dsn(site.REDIS)
    made = arq.Worker(functions=[work], redis_settings=settings, max_jobs=site.SLOTS, handle_signals=False)
    await made.async_run()


class Arq(Peer):
    """`enqueue_job` in this process; a finished job keeps its result."""

    packages = ("arq", "redis")

    async def start(self) -> None:
        """One worker."""
        self._redis = await arq.create_pool(RedisSettings.from_dsn(site.REDIS))
        self.spawn_workers("-m", "tests.benchmarks.peers.arq", "worker")

    async def submit(self, seconds: float) -> None:
        """A few commands to Redis."""
        await self._redis.enqueue_job("work", seconds)

    async def pending(self) -> int:
        """Jobs leave the queue when they end."""
        return int(await self._redis.zcard("arq:queue"))


if __name__ == "__main__":
    driver.main(Arq, worker=worker)
