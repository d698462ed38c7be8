"""Raw Celery: a pool of threads, results in the same Redis, nothing durable."""

from __future__ import annotations

import time
from typing import Any

from celery import Celery

from tests.benchmarks.peers import driver, site

app = Celery("bench", broker=site.REDIS, backend=site.redis(1))
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True)


def _work(seconds: float) -> float:
    site.mark()
    if seconds:
        time.sleep(seconds)
    return seconds


work: Any = app.task(_work, name="bench.work")


class CeleryThreads(driver.Peer):
    """`delay()` in this process, one after another; a run has ended when its result is stored."""

    packages = ("celery", "kombu", "redis")

    async def start(self) -> None:
        """One worker."""
        command = ("-m", "celery", "-A", "tests.benchmarks.peers.celery_threads", "worker", "-P", "threads")
        quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle")
        self.spawn(*command, "-c", str(site.SLOTS), *quiet)

    async def submit(self, seconds: float) -> None:
        """Block, as Celery's client does."""
        work.delay(seconds)

    async def pending(self) -> int:
        """The results that are missing."""
        return self.submitted - int(app.backend.client.dbsize())


if __name__ == "__main__":
    driver.main(CeleryThreads)
