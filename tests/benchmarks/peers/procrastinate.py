"""procrastinate: a task queue of asyncio on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import procrastinate
import psycopg

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.load import CONNECTIONS
from tests.benchmarks.peers.peer import Peer

connector = procrastinate.PsycopgConnector(conninfo=site.DATABASE, max_size=CONNECTIONS)
app = procrastinate.App(connector=connector)


async def _work(seconds: float) -> None:
    site.mark()
    if seconds:
        await asyncio.sleep(seconds)


work: Any = app.task(_work, name="bench.work")


async def worker() -> None:
    """Work off the queue."""
    async with app.open_async():
        await app.run_worker_async(concurrency=site.SLOTS)


class Procrastinate(Peer):
    """`defer_async` in this process."""

    packages = ("procrastinate", "psycopg")

    async def start(self) -> None:
        """The schema and one worker."""
        self._rows = psycopg.connect(site.DATABASE_OF_LOAD, autocommit=True)
        await app.open_async()
        await app.schema_manager.apply_schema_async()
        self.spawn_workers("-m", "tests.benchmarks.peers.procrastinate", "worker")

    async def submit(self, seconds: float) -> None:
        """One INSERT."""
        await work.defer_async(seconds=seconds)

    async def pending(self) -> int:
        """Jobs to do and under way."""
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
        found = self._rows.execute(query).fetchone()
        assert found
        return int(found[0])


if __name__ == "__main__":
    driver.main(Procrastinate, worker=worker)
