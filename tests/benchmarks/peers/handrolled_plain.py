"""The plain stack that people write: a Starlette api that calls `delay()`, a Celery worker, nothing stored."""

from __future__ import annotations

import time
from typing import Any

import uvicorn
from celery import Celery
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from runyard_launch.supervisor import process
from tests.benchmarks.peers import driver, site

app = Celery("bench", broker=site.REDIS)
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True, broker_connection_retry_on_startup=True)


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
    web = Starlette(routes=[Route("/runs", create, methods=["POST"])])
    await uvicorn.Server(uvicorn.Config(web, port=site.PORT, log_level="warning", access_log=False)).serve()


class PlainStack(driver.Peer):
    """POST /runs; nothing is kept of a run, so that it counts as ended when its handler began."""

    packages = ("starlette", "uvicorn", "celery", "redis")

    async def start(self) -> None:
        """One api and one worker."""
        module = "tests.benchmarks.peers.handrolled_plain"
        port = process.free_port()
        self._http = driver.Http(port)
        self.spawn("-m", module, "api", BENCH_PORT=str(port))
        quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle")
        self.spawn("-m", "celery", "-A", module, "worker", "-P", "threads", "-c", str(site.SLOTS), *quiet)
        await driver.listening(port)

    async def submit(self, seconds: float) -> None:
        """Over HTTP."""
        await self._http.post({"seconds": seconds})


if __name__ == "__main__":
    driver.main(PlainStack, api=api)
