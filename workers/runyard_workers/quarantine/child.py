"""A quarantine process: `python -m runyard_workers.quarantine.child OUT PAGE LEASE PARENT`, started by a worker.

It executes the runs that its worker sends it, under the worker's lease, and writes to the database itself. It notes
in the shared page whose code it is in. It ends with its worker.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

import orjson
import structlog

from runyard_common import telemetry, tracing
from runyard_common.environment import load
from runyard_common.metrics.points import POINTS, passed_on
from runyard_common.runs.rules.tasks import Fence
from runyard_common.runs.service.claims import Claimed, reclaimed
from runyard_common.settings import Settings
from runyard_workers.attempts.runs import Life, Runs
from runyard_workers.execution import Execution
from runyard_workers.isolation import deaths, forks, signals
from runyard_workers.isolation.lease import Lease
from runyard_workers.isolation.loop_guard import RUN, LoopGuard
from runyard_workers.isolation.loop_thread import LoopThread
from runyard_workers.isolation.run_threads import RunThreads
from runyard_workers.isolation.threads import in_engine_thread
from runyard_workers.isolation.watchdog import BLOCKED, Blocked, Watchdog, leave
from runyard_workers.quarantine.process import PLACES, WIDTH

P = ParamSpec("P")
T = TypeVar("T")
logger = structlog.get_logger("runyard.quarantine")

_GONE = 0


class Page:
    """The shared page, a task id to each place: place 0 is the loop's, the others belong to threads."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._free = list(range(1, PLACES))

    def write(self, place: int, run: str | None) -> None:
        """Note that this place is in the code of `run`."""
        at = place * WIDTH
        self._memory[at : at + WIDTH] = (run or "").encode()[:WIDTH].ljust(WIDTH, b"\0")

    def acquire(self) -> int | None:
        """A place for a thread, if one is free."""
        with self._lock:
            return self._free.pop() if self._free else None

    def release(self, place: int) -> None:
        """Give a thread's place back."""
        with self._lock:
            self._free.append(place)


class PagedGuard(LoopGuard):
    """A guard that notes in the page which run the loop executes."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._executing: str | None = None

    @property
    def executing(self) -> str | None:
        """The run whose code the loop's thread is in."""
        return self._executing

    @executing.setter
    def executing(self, run: str | None) -> None:
        self._executing = run
        self._page.write(0, run)


class PagedThreads(RunThreads):
    """Threads that note in the page which run's code they are in."""

    def __init__(self, limit: int, page: Page) -> None:
        super().__init__(limit)
        self._page = page

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return super().submit(partial(self._noted, RUN.get(), partial(fn, *args, **kwargs)))

    def _noted(self, run: str | None, call: Callable[[], T]) -> T:
        place = self._page.acquire()
        if place is None:
            return call()
        self._page.write(place, run)
        try:
            return call()
        finally:
            self._page.write(place, None)
            self._page.release(place)


class Child:
    """The process: messages in, runs, messages out."""

    def __init__(self, settings: Settings, threads: RunThreads, out: int, page: Page, lease: float) -> None:
        self._settings = settings
        self._threads = threads
        self._out = out
        self._lease = Lease(lease)
        self._guard = PagedGuard(page)
        self._loop = asyncio.get_running_loop()
        self._runs: Runs | None = None
        self._finish = asyncio.Event()
        self._drain_seconds: float | None = None

    async def serve(self) -> None:
        """Execute what is sent until there is no more."""
        self._guard.install(self._loop)
        forks.install(self._loop)
        signals.install()
        if self._settings.metrics_listen is not None:
            POINTS.events = lambda events: self._send({"events": passed_on(events)})
        execution = Execution(self._settings)
        await execution.open()
        self._execution = execution
        self._runs = Runs(
            execution.preparation(self._threads), execution.writer, self._guard, self._threads, self._ended
        )
        self._runs.lease = self._lease
        limit = self._settings.loop_block_seconds or self._settings.lease_seconds
        watchdog = Watchdog(self._loop, self._guard, limit, _leave_blocked, hard=True)
        watchdog.start()
        self._send({"ready": True})
        threading.Thread(target=self._read, name="messages", daemon=True).start()
        await self._finish.wait()
        self._send({"leaving": True})  # from here on its end is in order, with all that it was still sent
        await self._runs.drain(self._drain_seconds if self._drain_seconds is not None else 3600.0)
        watchdog.stop()
        await execution.close()
        await in_engine_thread(tracing.stop)

    def _read(self) -> None:
        with os.fdopen(0, "rb") as messages:
            for line in messages:
                message = orjson.loads(line)
                if "beat" in message:
                    self._lease.renewed(float(message["beat"]))
                else:
                    self._loop.call_soon_threadsafe(self._receive, message)
        leave(_GONE)  # the worker is gone, and the lease with it

    def _receive(self, message: dict[str, Any]) -> None:
        assert self._runs is not None
        if "run" in message:
            fence = Fence(message["attempt"], message["token"])
            self._begin = self._loop.create_task(self._start_run(message["run"], fence))
        elif "cancel" in message:
            self._runs.cancel(message["cancel"], message["why"])
        elif "drain" in message:
            self._drain_seconds = message["drain"]
            self._finish.set()
        elif "finish" in message:
            self._finish.set()

    async def _start_run(self, task_id: str, fence: Fence) -> None:
        assert self._runs is not None
        try:
            claimed = await in_engine_thread(self._claimed, task_id, fence)
        except Exception as error:  # noqa: BLE001 - the worker's heartbeat finds the task and hands it back
            logger.warning("A suspect could not be read", action="quarantine", error=str(error)[:200])
            claimed = None
        if claimed is None:
            self._send({"ended": task_id})
        else:
            self._runs.begin(claimed)

    def _claimed(self, task_id: str, fence: Fence) -> Claimed | None:
        with self._execution.store.read() as conn:
            return reclaimed(conn, self._execution.store.db.now(conn), task_id, fence)

    def _ended(self, life: Life, calls: list[Future[Any]]) -> None:
        self._send({"ended": life.claimed.task.id})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._out, orjson.dumps(message) + b"\n")
        except OSError:
            leave(_GONE)


def _leave_blocked(found: Blocked) -> None:
    logger.critical(
        "A run blocks the event loop of its quarantine process, which ends",
        action="blocked", task=found.run, seconds=round(found.seconds, 1), stack=found.stack,
    )  # fmt: skip
    leave(BLOCKED)


def main() -> None:
    """Run until the worker has no more to send, or is gone."""
    out, page, lease_seconds, parent = (
        int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]),
    )  # fmt: skip
    deaths.end_with_parent(parent)  # also when native code keeps the thread that reads from noticing
    for number in (signal.SIGINT, signal.SIGTERM):  # of the whole process group: the worker decides
        signal.signal(number, signal.SIG_IGN)
    settings = load()
    telemetry.configure(settings.log_level, hosts_code=True)
    tracing.start("runyard-worker")
    memory = Page(mmap.mmap(page, WIDTH * PLACES))
    threads = PagedThreads(settings.worker_concurrency, memory)

    async def serve() -> None:
        await Child(settings, threads, out, memory, lease_seconds).serve()

    LoopThread(threads).submit(serve()).result()
    leave(_GONE)


if __name__ == "__main__":
    main()
