"""Raw Celery: a pool of threads or processes, with results in the same Redis or without any; nothing durable."""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.celery_worker import celery_app, spawn_workers
from tests.benchmarks.peers.peer import Peer

app = celery_app(site.redis(1) if site.RESULTS else None)


def _work(seconds: float) -> float:
    site.mark()
    if seconds:
        time.sleep(seconds)
    return seconds


work: Any = app.task(_work, name="bench.work", ignore_result=not site.RESULTS)


class RawCelery(Peer):
    """`delay()` in this process, one after another; a run has ended when its result is stored."""

    packages = ("celery", "kombu", "redis")

    async def start(self) -> None:
        """One worker."""
        spawn_workers(self, "celery")

    async def submit(self, seconds: float) -> None:
        """Block, as Celery's client does."""
        work.delay(seconds)

    async def pending(self) -> int:
        """The results that are missing; without results, the mark counts as the end."""
        return self.submitted - int(app.backend.client.dbsize()) if site.RESULTS else 0


if __name__ == "__main__":
    driver.main(RawCelery)
