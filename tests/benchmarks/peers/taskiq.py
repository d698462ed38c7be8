"""taskiq: a queue of asyncio on Redis streams, results in the same Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import redis
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.peer import Peer

broker = RedisStreamBroker(site.REDIS).with_result_backend(RedisAsyncResultBackend(site.redis(1)))


async def _work(seconds: float) -> None:
    site.mark()
    if seconds:
        await asyncio.sleep(seconds)


work: Any = broker.register_task(_work, task_name="bench.work")


class Taskiq(Peer):
    """`kiq` in this process; a run has ended when its result is stored."""

    packages = ("taskiq", "taskiq-redis", "redis")

    async def start(self) -> None:
        """One worker process."""
        self._results = redis.Redis.from_url(site.redis(1))
        await broker.startup()
        command = ("-m", "taskiq", "worker", "tests.benchmarks.peers.taskiq:broker", "--workers", "1")
        self.spawn_workers(*command, "--max-async-tasks", str(site.SLOTS), "--log-level", "WARNING")

    async def submit(self, seconds: float) -> None:
        """One XADD."""
        await work.kiq(seconds)

    async def pending(self) -> int:
        """The results that are missing."""
        return self.submitted - int(self._results.dbsize())


if __name__ == "__main__":
    driver.main(Taskiq)
