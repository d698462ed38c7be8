"""What the subjects with an api of Starlette have in common: POST /runs accepts a run, GET /runs/ID may show it."""

from __future__ import annotations

import json

import uvicorn
from starlette.applications import Starlette

from runyard_launch.supervisor import process
from tests.benchmarks.peers import site
from tests.benchmarks.peers.http_client import Http
from tests.benchmarks.peers.peer import ReadablePeer, listening


async def serve(web: Starlette) -> None:
    """Serve it in this process, on the port of the subject."""
    await uvicorn.Server(uvicorn.Config(web, port=site.PORT, log_level="warning", access_log=False)).serve()


class ApiPeer(ReadablePeer):
    """Submits over HTTP; not every api shows runs."""

    async def start_api(self, module: str) -> None:
        """Start the role `api` of a subject."""
        port = process.free_port()
        self._http = Http(port)
        self.spawn("-m", f"tests.benchmarks.peers.{module}", "api", BENCH_PORT=str(port))
        await listening(port)

    async def submit(self, seconds: float) -> None:
        """POST /runs."""
        self._accepted = await self._http.post("/runs", {"seconds": seconds})

    async def read(self) -> None:
        """GET /runs/ID."""
        await self._http.get(f"/runs/{json.loads(self._accepted)['id']}")
