"""The durable stack that people write: a row in PostgreSQL, then `delay()`, and a worker that updates its status."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from celery.signals import worker_init
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.celery_worker import celery_app, spawn_workers
from tests.benchmarks.peers.starlette_api import ApiPeer, serve

TABLE = """CREATE TABLE runs (
    id uuid PRIMARY KEY, status text NOT NULL, seconds double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, ended_at timestamptz
)"""
app = celery_app()
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


async def show(request: Request) -> JSONResponse:
    """A run."""
    async with request.app.state.rows.connection() as connection:
        query = "SELECT status, created_at, started_at, ended_at FROM runs WHERE id = %s"
        found = await (await connection.execute(query, (request.path_params["id"],))).fetchone()
    status, *times = found
    return JSONResponse({"status": status, "times": [time and time.isoformat() for time in times]})


@contextlib.asynccontextmanager
async def lifespan(web: Starlette) -> AsyncIterator[None]:
    """The api's connections."""
    async with AsyncConnectionPool(site.DATABASE, min_size=4, max_size=20, open=False) as web.state.rows:
        yield


async def api() -> None:
    """Serve the api."""
    routes = [Route("/runs", create, methods=["POST"]), Route("/runs/{id}", show)]
    await serve(Starlette(routes=routes, lifespan=lifespan))


class DurableStack(ApiPeer):
    """POST /runs; a run has ended when its row is `done`."""

    packages = ("starlette", "uvicorn", "celery", "redis", "psycopg", "psycopg-pool")

    async def start(self) -> None:
        """The table, one api and one worker."""
        self._rows = psycopg.connect(site.DATABASE_OF_LOAD, autocommit=True)
        self._rows.execute(TABLE)
        spawn_workers(self, "handrolled_durable")
        await self.start_api("handrolled_durable")

    async def pending(self) -> int:
        """The rows that are not done."""
        found = self._rows.execute("SELECT count(*) FROM runs WHERE status <> 'done'").fetchone()
        assert found
        return int(found[0])


if __name__ == "__main__":
    driver.main(DurableStack, api=api)
