"""The durable stack that people write: a row in PostgreSQL, then `delay()`, and a worker that updates its status."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import uvicorn
from celery import Celery
from celery.signals import worker_init
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from runyard_launch.supervisor import process
from tests.benchmarks.peers import driver, site

TABLE = """CREATE TABLE runs (
    id uuid PRIMARY KEY, status text NOT NULL, seconds double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, ended_at timestamptz
)"""
app = Celery("bench", broker=site.REDIS)
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True)
rows: Any = ConnectionPool(site.DATABASE, min_size=4, max_size=20, open=False)


def _open(**_: object) -> None:
    rows.open(wait=True)


worker_init.connect(_open, weak=False)


def _work(run_id: str) -> None:
    with rows.connection() as connection:
        query = "UPDATE runs SET status = 'running', started_at = now() WHERE id = %s RETURNING seconds"
        (seconds,) = connection.execute(query, (run_id,)).fetchone()
    site.mark()
    if seconds:
        time.sleep(seconds)
    with rows.connection() as connection:
        connection.execute("UPDATE runs SET status = 'done', ended_at = now() WHERE id = %s", (run_id,))


work: Any = app.task(_work, name="bench.work", ignore_result=True)


async def create(request: Request) -> JSONResponse:
    """Accept a run: its row is committed before the message is sent."""
    body, run_id = await request.json(), str(uuid.uuid4())
    async with request.app.state.rows.connection() as connection:
        query = "INSERT INTO runs (id, status, seconds) VALUES (%s, 'queued', %s)"
        await connection.execute(query, (run_id, body["seconds"]))
    await run_in_threadpool(work.delay, run_id)
    return JSONResponse({"id": run_id}, 202)


@contextlib.asynccontextmanager
async def lifespan(web: Starlette) -> AsyncIterator[None]:
    """The api's connections."""
    async with AsyncConnectionPool(site.DATABASE, min_size=4, max_size=20, open=False) as web.state.rows:
        yield


async def api() -> None:
    """Serve the api."""
    web = Starlette(routes=[Route("/runs", create, methods=["POST"])], lifespan=lifespan)
    await uvicorn.Server(uvicorn.Config(web, port=site.PORT, log_level="warning", access_log=False)).serve()


class DurableStack(driver.Peer):
    """POST /runs; a run has ended when its row is `done`."""

    packages = ("starlette", "uvicorn", "celery", "redis", "psycopg", "psycopg-pool")

    async def start(self) -> None:
        """The table, one api and one worker."""
        self._rows = psycopg.connect(site.DATABASE, autocommit=True)
        self._rows.execute(TABLE)
        module = "tests.benchmarks.peers.handrolled_durable"
        port = process.free_port()
        self._http = driver.Http(port)
        self.spawn("-m", module, "api", BENCH_PORT=str(port))
        quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle")
        self.spawn("-m", "celery", "-A", module, "worker", "-P", "threads", "-c", str(site.SLOTS), *quiet)
        await driver.listening(port)

    async def submit(self, seconds: float) -> None:
        """Over HTTP."""
        await self._http.post({"seconds": seconds})

    async def pending(self) -> int:
        """The rows that are not done."""
        found = self._rows.execute("SELECT count(*) FROM runs WHERE status <> 'done'").fetchone()
        assert found
        return int(found[0])


if __name__ == "__main__":
    driver.main(DurableStack, api=api)
