"""dramatiq: threads on Redis, no results."""

from __future__ import annotations

import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.peer import Peer

broker = RedisBroker(url=site.REDIS)
dramatiq.set_broker(broker)


def _work(seconds: float) -> None:
    site.mark()
    if seconds:
        time.sleep(seconds)


work: Any = dramatiq.actor(_work, actor_name="bench.work", broker=broker)


class Dramatiq(Peer):
    """`send()` in this process, one after another."""

    packages = ("dramatiq", "redis")

    async def start(self) -> None:
        """One worker process."""
        command = ("-m", "dramatiq", "tests.benchmarks.peers.dramatiq", "--processes", "1")
        self.spawn_workers(*command, "--threads", str(site.SLOTS))

    async def submit(self, seconds: float) -> None:
        """Block, as dramatiq's client does."""
        work.send(seconds)

    async def pending(self) -> int:
        """Messages that are kept until they are acknowledged."""
        return int(broker.client.hlen("dramatiq:default.msgs"))


if __name__ == "__main__":
    driver.main(Dramatiq)
