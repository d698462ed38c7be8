"""Runyard as real processes: one api, one worker, one scheduler; on PostgreSQL or SQLite."""

from __future__ import annotations

import os
from pathlib import Path

from tests.benchmarks.peers import driver, site
from tests.stack import ROOT, Stack


class Runyard(driver.Peer):
    """Submits over HTTP."""

    packages = ("runyard", "starlette", "uvicorn", "sqlalchemy", "psycopg", "redis")

    async def start(self) -> None:
        """The stack."""
        folder = Path(os.environ["BENCH_FOLDER"])
        self._stack = Stack(
            folder,
            database_url=site.DATABASE,
            broker_url=site.REDIS,
            redis_url=site.REDIS,
            agents=[str(ROOT / "tests" / "benchmarks" / "agents.py")],
            RUNYARD_WORKER_CONCURRENCY=str(site.SLOTS),
        )
        self._stack.__enter__()
        path = "/api/v1/agents/%40bench%2Fwork/run"
        self._http = driver.Http(self._stack.ports["api-1"], path, self._stack.key)

    async def submit(self, seconds: float) -> None:
        """Over HTTP."""
        await self._http.post({"args": {"seconds": seconds}})

    async def pending(self) -> int:
        """Tasks that wait or run."""
        _, queue = self._stack.request("GET", "/api/v1/ops/queue")
        return int(queue["waiting"] + queue["running"])

    async def close(self) -> None:
        """End the stack."""
        self._stack.__exit__()


if __name__ == "__main__":
    driver.main(Runyard)
