"""The plain stack that people write: a Starlette api that calls `delay()`, a Celery worker, nothing stored."""

from __future__ import annotations

import time
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.benchmarks.peers import driver, site
from tests.benchmarks.peers.celery_worker import celery_app, spawn_workers
from tests.benchmarks.peers.starlette_api import ApiPeer, serve

app = celery_app()


def _work(seconds: float) -> None:
    site.mark()
    if seconds:
        time.sleep(seconds)


work: Any = app.task(_work, name="bench.work", ignore_result=True)


async def create(request: Request) -> JSONResponse:
    """Accept a run."""
    body = await request.json()
    result = await run_in_threadpool(work.delay, body["seconds"])
    return JSONResponse({"id": result.id}, 202)


async def api() -> None:
    """Serve the api."""
    await serve(Starlette(routes=[Route("/runs", create, methods=["POST"])]))


class PlainStack(ApiPeer):
    """POST /runs; nothing is kept of a run, so that it counts as ended when its handler began."""

    packages = ("starlette", "uvicorn", "celery", "redis")

    async def start(self) -> None:
        """One api and one worker."""
        spawn_workers(self, "handrolled_plain")
        await self.start_api("handrolled_plain")


if __name__ == "__main__":
    driver.main(PlainStack, api=api)
