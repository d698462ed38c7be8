"""Aegra, the open-source server of LangGraph's api: runs are tasks of the api's loop, rows in PostgreSQL show them."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import psycopg

from runyard_launch.supervisor import process
from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.graph import CONFIG
from tests.benchmarks.peers.http_client import Http
from tests.benchmarks.peers.peer import ReadablePeer, listening


class Aegra(ReadablePeer):
    """POST of a run to a new thread, which that makes."""

    packages = ("aegra-api", "langgraph", "langgraph-checkpoint-postgres", "sqlalchemy", "asyncpg", "fastapi")

    async def start(self) -> None:
        """One process, which makes the tables; it has no slots."""
        folder, port = Path(os.environ["BENCH_FOLDER"]), process.free_port()
        config = folder / "aegra.json"
        config.write_text(json.dumps(CONFIG))
        found = {"AEGRA_CONFIG": str(config), "DATABASE_URL": site.DATABASE, "LOG_LEVEL": "WARNING"}
        command = ("-m", "uvicorn", "aegra_api.main:app", "--no-access-log", "--log-level", "warning")
        self.spawn(*command, "--port", str(port), cwd=folder, **found)
        await listening(port)
        self._http = Http(port)
        self._rows = psycopg.connect(site.DATABASE_OF_LOAD, autocommit=True)

    async def submit(self, seconds: float) -> None:
        """Over HTTP."""
        path = f"/threads/{uuid.uuid4()}/runs"
        body = {"assistant_id": "bench", "input": {"seconds": seconds}}
        self._accepted = await self._http.post(path, body, status=200)

    async def read(self) -> None:
        """GET the run."""
        run = json.loads(self._accepted)
        await self._http.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}")

    async def pending(self) -> int:
        """The rows of runs that have not ended."""
        query = "SELECT count(*) FROM runs WHERE status IN ('pending', 'running')"
        found = self._rows.execute(query).fetchone()
        assert found
        return int(found[0])


if __name__ == "__main__":
    driver.main(Aegra)
