"""Starlette that does nothing but answer: what HTTP, and this client, cost by themselves."""

from __future__ import annotations

import uuid

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.starlette_api import ApiPeer, serve

#: As long as the answer of Runyard is.
SHOWN = {"id": str(uuid.uuid4()), "text": "x" * 1000}


async def create(request: Request) -> JSONResponse:
    """Read the run, begin and end it."""
    await request.json()
    site.mark()
    return JSONResponse({"id": str(uuid.uuid4())}, 202)


async def show(_: Request) -> JSONResponse:
    """Always the same."""
    return JSONResponse(SHOWN)


async def api() -> None:
    """Serve the api."""
    routes = [Route("/runs", create, methods=["POST"]), Route("/runs/{id}", show)]
    await serve(Starlette(routes=routes))


class Static(ApiPeer):
    """No worker: a run has ended when it is accepted."""

    packages = ("starlette", "uvicorn")

    async def start(self) -> None:
        """One api."""
        await self.start_api("static")


if __name__ == "__main__":
    driver.main(Static, api=api)
