"""Runyard as real processes: one api, one worker or more, one scheduler; on PostgreSQL or SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import psycopg

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.http_client import Http
from tests.benchmarks.peers.load import LIMIT
from tests.benchmarks.peers.peer import ReadablePeer
from tests.stack import ROOT, Stack

RUN = "/api/v1/agents/%40bench%2Fwork/run"


class Runyard(ReadablePeer):
    """Submits over HTTP."""

    packages = ("runyard", "starlette", "uvicorn", "sqlalchemy", "psycopg", "redis")

    async def start(self) -> None:
        """The stack, and a connection to its database for the load."""
        self._stack = Stack(
            Path(os.environ["BENCH_FOLDER"]),
            database_url=site.DATABASE,
            broker_url=site.REDIS,
            redis_url=site.REDIS,
            workers=site.WORKERS,
            api=site.APIS,
            one_port=site.APIS > 1,
            agents=[str(ROOT / "tests" / "benchmarks" / "agents.py")],
            ready_seconds=LIMIT,
            RUNYARD_WORKER_CONCURRENCY=str(site.SLOTS),
        )
        self._stack.__enter__()
        self.processes += self._stack.processes.values()
        self._http = Http(self._stack.ports["api-1"], self._stack.key)
        self._rows: psycopg.Connection | sqlite3.Connection = (
            psycopg.connect(site.DATABASE_OF_LOAD, autocommit=True)
            if site.DATABASE
            else sqlite3.connect(self._stack.home / "runyard.db", isolation_level=None)
        )

    async def submit(self, seconds: float) -> None:
        """POST to the agent."""
        self._accepted = await self._http.post(RUN, {"args": {"seconds": seconds}})

    async def read(self) -> None:
        """GET the task."""
        await self._http.get(f"/tasks/{json.loads(self._accepted)['task_id']}")

    async def pending(self) -> int:
        """Tasks that wait or run."""
        found = self._rows.execute("SELECT count(*) FROM tasks WHERE finished_at IS NULL").fetchone()
        assert found
        return int(found[0])

    async def close(self) -> None:
        """End the stack."""
        self._stack.__exit__()


if __name__ == "__main__":
    driver.main(Runyard)
