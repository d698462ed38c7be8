"""huey: threads on Redis, results in the same Redis."""

from __future__ import annotations

import time
from typing import Any

from huey import RedisHuey
from redis import ConnectionPool

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.peer import Peer

#: Every thread waits on a connection of its own, which are more than the client's default.
pool = ConnectionPool.from_url(site.REDIS, max_connections=site.SLOTS + 20)
queue: Any = RedisHuey("bench", connection_pool=pool)


def _work(seconds: float) -> float:
    site.mark()
    if seconds:
        time.sleep(seconds)
    return seconds


_work.__module__ = "tests.benchmarks.peers.huey"  # part of the task's name, also where this is __main__
work: Any = queue.task(name="bench.work")(_work)


class Huey(Peer):
    """A call in this process, one after another; a run has ended when its result is stored."""

    packages = ("huey", "redis")

    async def start(self) -> None:
        """One worker process."""
        command = ("-m", "huey.bin.huey_consumer", "tests.benchmarks.peers.huey.queue", "--quiet")
        self.spawn_workers(*command, "--worker-type", "thread", "--workers", str(site.SLOTS))

    async def submit(self, seconds: float) -> None:
        """Block, as huey's client does."""
        work(seconds)

    async def pending(self) -> int:
        """The results that are missing."""
        return self.submitted - int(queue.storage.result_store_size())


if __name__ == "__main__":
    driver.main(Huey)
