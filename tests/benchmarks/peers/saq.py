"""saq: a queue of asyncio on Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import saq

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.peer import Peer, until


async def work(ctx: Any, *, seconds: float) -> None:
    """The handler."""
    site.mark()
    if seconds:
        await asyncio.sleep(seconds)


async def worker() -> None:
    """Work off the queue."""
    queue = saq.Queue.from_url(site.REDIS)
    await saq.Worker(queue, functions=[work], concurrency=site.SLOTS).start()


class Saq(Peer):
    """`enqueue` in this process; a finished job keeps its result."""

    packages = ("saq", "redis")

    async def start(self) -> None:
        """One worker."""
        self._queue = saq.Queue.from_url(site.REDIS)
        await self._queue.connect()
        self.spawn_workers("-m", "tests.benchmarks.peers.saq", "worker")
        # The sweep at a worker's start counts a job that is being claimed as stuck, and repeats it seconds later.
        await until(self._swept)
        if site.WORKERS > 1:
            await asyncio.sleep(1)  # until the others listen too

    async def submit(self, seconds: float) -> None:
        """One script in Redis."""
        await self._queue.enqueue("work", seconds=seconds)

    async def pending(self) -> int:
        """Jobs that wait or run."""
        return int(await self._queue.count("incomplete"))

    async def _swept(self) -> bool:
        return bool(await self._queue.redis.exists(self._queue.namespace("sweep")))


if __name__ == "__main__":
    driver.main(Saq, worker=worker)
