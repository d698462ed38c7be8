"""DBOS: durable workflows on PostgreSQL, started from a queue that a worker polls every second."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import dbos
import psycopg

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.peer import Peer, until

QUEUE = "bench"
#: Written by the worker when it has made its tables and listens.
READY = Path(os.environ.get("BENCH_FOLDER", "")) / "ready"


async def _work(seconds: float) -> None:
    site.mark()
    if seconds:
        await asyncio.sleep(seconds)


async def worker() -> None:
    """Work off the queue."""
    dbos.DBOS(config={"name": "bench", "system_database_url": site.DATABASE, "run_admin_server": False})
    dbos.DBOS.workflow(name="bench.work")(_work)
    dbos.DBOS.launch()
    await dbos.DBOS.register_queue_async(QUEUE)  # without a limit, which would be one on runs a poll
    READY.touch()
    await asyncio.Event().wait()


async def _is_ready() -> bool:
    return READY.exists()


class Dbos(Peer):
    """`enqueue_async` of DBOS's client in this process."""

    packages = ("dbos", "psycopg", "sqlalchemy")

    async def start(self) -> None:
        """One worker, which makes the tables; a run waits for its queue's next poll."""
        self._rows = psycopg.connect(site.DATABASE_OF_LOAD, autocommit=True)
        self.spawn_workers("-m", "tests.benchmarks.peers.dbos", "worker")
        await until(_is_ready)
        self._client: Any = dbos.DBOSClient(system_database_url=site.DATABASE)

    async def submit(self, seconds: float) -> None:
        """One INSERT."""
        await self._client.enqueue_async({"queue_name": QUEUE, "workflow_name": "bench.work"}, seconds)

    async def pending(self) -> int:
        """Workflows that wait or run."""
        query = "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')"
        found = self._rows.execute(query).fetchone()
        assert found
        return int(found[0])


if __name__ == "__main__":
    driver.main(Dbos, worker=worker)
