"""LangGraph's in-memory server (`langgraph dev`): api and workers in one process, nothing stored before an answer."""

from __future__ import annotations

import json
import os
from pathlib import Path

from runyard_launch.supervisor import process
from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.graph import CONFIG
from tests.benchmarks.peers.http_client import Http
from tests.benchmarks.peers.peer import Peer, listening


class LangGraph(Peer):
    """POST /runs: a run without a thread of its own."""

    packages = ("langgraph-api", "langgraph-runtime-inmem", "langgraph", "starlette", "uvicorn")

    async def start(self) -> None:
        """One process, in a folder where it keeps what it writes from time to time."""
        folder, port = Path(os.environ["BENCH_FOLDER"]), process.free_port()
        (folder / "langgraph.json").write_text(json.dumps(CONFIG))
        command = (
            "-m",
            "langgraph_cli",
            "dev",
            "--no-browser",
            "--no-reload",
            "--allow-blocking",
            "--port",
            str(port),
        )
        quiet = {"LOG_LEVEL": "WARNING", "LANGSMITH_TRACING": "false"}
        self.spawn(*command, "--n-jobs-per-worker", str(site.SLOTS), cwd=folder, **quiet)
        await listening(port)
        self._http = Http(port)

    async def submit(self, seconds: float) -> None:
        """Over HTTP."""
        await self._http.post("/runs", {"assistant_id": "bench", "input": {"seconds": seconds}}, status=200)

    async def pending(self) -> int:
        """Runs that wait or are under way."""
        queue = json.loads(await self._http.get("/metrics?format=json"))["queue"]
        return int(queue["n_pending"] + queue["n_running"])


if __name__ == "__main__":
    driver.main(LangGraph)
