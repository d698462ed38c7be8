"""The pool: its life from start to drain, and what Celery asks of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, ClassVar, ParamSpec, TypeVar

from celery.concurrency.base import BasePool
from celery.exceptions import ImproperlyConfigured
from celery.utils.dispatch import Signal
from celery.utils.log import get_logger
from celery.worker import state as worker_state

from runyard_workers.pool import hub
from runyard_workers.pool.intake import Intake
from runyard_workers.pool.job import Job, Order
from runyard_workers.pool.leaving import Leaving
from runyard_workers.pool.loop import POLL_SECONDS, LoopThread
from runyard_workers.pool.slots import Slots
from runyard_workers.pool.threads import DaemonThreads

P = ParamSpec("P")
T = TypeVar("T")

logger = get_logger("celery.pool")

COLD_SECONDS = 5.0  # what a cold shutdown gives to coroutines that clean up

#: Sent on the loop before the worker takes its first task. Arguments: `loop`, `pool`. A receiver may return
#: an awaitable, which is awaited; one that fails makes the worker exit instead of running without it.
loop_started = Signal(name="loop_started", providing_args={"loop", "pool"})

#: Sent on the loop when a shutdown begins. Arguments: `loop`, `pool`, `warm` (bool). A receiver may return
#: an awaitable: the loop runs until it is done or the grace period over.
loop_stopping = Signal(name="loop_stopping", providing_args={"loop", "pool", "warm"})


class PoolStartError(Exception):
    """A receiver of `loop_started` failed; the worker is of no use without it."""


class AsyncioPool(BasePool):  # type: ignore[misc]
    """Runs up to `limit` Celery tasks at once: `async def` on one event loop, plain functions in threads.

    `drain_seconds` (or `app.conf.runyard_drain_seconds`) is the grace period of a warm shutdown; with neither
    it waits for its tasks as long as they take, as Celery's own pools do.

    Celery calls the methods from the worker's main thread; `slots` belongs to the loop's thread.
    """

    limit: int
    signal_safe = False
    body_can_be_buffer = True
    _current: ClassVar[AsyncioPool | None] = None

    def __init__(
        self, limit: int = 1, *, drain_seconds: float | None = None, app: Any = None, **options: Any
    ) -> None:
        super().__init__(limit, app=app, **options)
        if drain_seconds is None and app is not None:
            drain_seconds = app.conf.get("runyard_drain_seconds")
        self.drain_seconds = drain_seconds
        self.slots = Slots(limit, on_room=hub.wake)
        self.task_threads = DaemonThreads(limit, "celery-task")
        self.blocking_threads = DaemonThreads(limit, "blocking")
        self._thread: LoopThread | None = None
        self._drain: Future[None] | None = None
        self._shutdown = threading.Lock()  # taken once, by whoever begins it; never waited for
        self._jobs: set[Job] = set()
        self._waiting: set[Job] = set()
        self._warned: set[str] = set()
        self._leaving = Leaving(self, lambda: self.drain_seconds)
        if app is not None:
            app.steps["consumer"].add(Intake)

    @classmethod
    def current(cls) -> AsyncioPool | None:
        """The running pool of this process, if it has one."""
        return cls._current

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that tasks run on. Raises RuntimeError before the start."""
        if self._thread is None:
            raise RuntimeError("the pool has not been started")
        return self._thread.loop

    def on_start(self) -> None:
        """Start the loop; return when every receiver of `loop_started` has run."""
        self._refuse_bare_coroutines()
        self._thread = LoopThread(self.blocking_threads)
        AsyncioPool._current = self
        try:
            self._thread.wait_for(self._announce_start(), meanwhile=worker_state.maybe_shutdown)
        except BaseException:
            self._end(self._thread, starting=True)
            raise

    def did_start_ok(self) -> bool:
        """Whether the loop runs."""
        return self._thread is not None and self._thread.alive

    def on_close(self) -> None:
        """A shutdown begins."""
        self._begin_shutdown(warm=not _is_cold())

    def on_stop(self) -> None:
        """Wait for running tasks; those that wait for a slot go back to the broker.

        Celery also calls this for a cold shutdown, from its signal handler, maybe amid a warm one.
        """
        self._stop(warm=not _is_cold())

    def on_terminate(self) -> None:
        """Cancel running tasks; messages not yet acknowledged go back to the broker."""
        self._stop(warm=False)

    def _stop(self, *, warm: bool) -> None:
        if self._thread is None:
            return
        self._begin_shutdown(warm=warm)
        if warm and not self._wait_until_idle(self.drain_seconds, meanwhile=hub.pump):
            logger.warning("%s tasks cancelled: they ran on after %s s", len(self._jobs), self.drain_seconds)
            warm = False
        if not warm:
            for job in list(self._jobs):
                job.lose()
            self._wait_until_idle(COLD_SECONDS)
        self._end(self._thread)

    @property
    def draining(self) -> bool:
        """Whether a shutdown has begun. Any thread."""
        return self._drain is not None

    def begin_drain(self) -> None:
        """Begin a warm shutdown, if none has begun. Any thread."""
        self._begin_shutdown(warm=True)

    def drained(self) -> bool:
        """Whether nothing of a shutdown that has begun is left to be done. Any thread."""
        return self.draining and not self._busy()

    def _begin_shutdown(self, *, warm: bool) -> None:
        running = self._thread is not None and not self._thread.ended
        if running and self._shutdown.acquire(blocking=False):
            for job in list(self._waiting):
                job.lose()
            assert self._thread is not None
            self._drain = self._thread.submit(self._announce_stop(warm))

    def _wait_until_idle(self, seconds: float | None, meanwhile: Callable[[], None] = lambda: None) -> bool:
        # Polls: in a signal handler this runs on top of itself, where a lock would wait for its own holder.
        deadline = None if seconds is None else time.monotonic() + seconds
        while self._busy():
            if deadline is not None and time.monotonic() > deadline:
                return False
            meanwhile()
            time.sleep(POLL_SECONDS)
        return True

    def _busy(self) -> bool:
        if self._thread is None or self._thread.ended:
            return False
        return bool(self._jobs) or (self._drain is not None and not self._drain.done())

    def _end(self, thread: LoopThread, *, starting: bool = False) -> None:
        if thread.ended:
            return
        thread.end(COLD_SECONDS, starting=starting)
        for threads in (self.task_threads, self.blocking_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        if AsyncioPool._current is self:
            AsyncioPool._current = None

    async def _announce_start(self) -> None:
        for receiver, response in loop_started.send(sender=self, loop=self.loop, pool=self):
            try:
                if isinstance(response, Exception):
                    raise response
                if inspect.isawaitable(response):
                    await response
            except Exception as error:
                raise PoolStartError(f"{receiver!r} failed at the start of the loop: {error!r}") from error

    async def _announce_stop(self, warm: bool) -> None:
        grace = self.drain_seconds if warm else min(COLD_SECONDS, self.drain_seconds or COLD_SECONDS)
        responses = [r for _, r in loop_stopping.send(sender=self, loop=self.loop, pool=self, warm=warm)]
        waits = [asyncio.ensure_future(_settled(r)) for r in responses if inspect.isawaitable(r)]
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=grace)
        for wait in late:
            logger.warning("A receiver of loop_stopping was cancelled: it was not done after %s s", grace)
            wait.cancel()
        if late:
            await asyncio.wait(late, timeout=COLD_SECONDS)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        correlation_id: str | None = None,
        **options: Any,
    ) -> Job:
        """Take a request from the consumer; what it returns lets Celery terminate the task."""
        task = self.app.tasks.get(args[0]) if self.app is not None and args else None
        order = Order(
            target,
            tuple(args or ()),
            kwargs or {},
            callback=options.get("callback"),
            error_callback=options.get("error_callback"),
            accept_callback=options.get("accept_callback"),
            timeout_callback=options.get("timeout_callback"),
            timeout=timeout or self.options.get("timeout"),
            soft_timeout=soft_timeout or self.options.get("soft_timeout"),
            correlation_id=correlation_id,
        )
        job = Job(self, order, on_loop=getattr(task, "runs_on_loop", False))
        if not job.on_loop and (order.timeout or order.soft_timeout):
            self._warn_of_limits(getattr(task, "name", repr(target)))
        if self._drain is None:  # else the message stays unacknowledged, for another worker
            self._jobs.add(job)
            self._waiting.add(job)
            self.loop.call_soon_threadsafe(self._start_job, job)
        return job

    def _start_job(self, job: Job) -> None:
        job.start().add_done_callback(lambda _: self._jobs.discard(job))

    def admitted(self, job: Job) -> None:
        """The job no longer waits for a slot."""
        self._waiting.discard(job)

    def has_room(self, at_least: int | None = None) -> bool:
        """Whether another message may be fetched; reckons with `at_least` slots (autoscaling). Any thread."""
        room = max(self.limit, at_least or 0) - self.slots.in_use - len(self._waiting)
        return room > 0 and self._drain is None

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Nothing: Celery names a process here, and terminates the very task by `Job.terminate` next."""

    async def run_blocking(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(*args, **kwargs)` in a thread, with the caller's context variables.

        As many at once as the pool has slots, the others queue. A cancelled caller stops waiting at once; the
        thread runs on and its result is dropped.
        """
        call = partial(copy_context().run, fn, *args, **kwargs)
        return await self.loop.run_in_executor(self.blocking_threads, call)

    def grow(self, n: int = 1) -> None:
        """Add `n` slots."""
        self._resize(self.limit + n)

    def shrink(self, n: int = 1) -> None:
        """Take `n` slots away; running tasks keep theirs. Raises ValueError if none would be left."""
        self._resize(self.limit - n)

    def _resize(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"the pool keeps at least one slot; it has {self.limit}")
        self.limit = limit
        self.loop.call_soon_threadsafe(self.slots.resize, limit)
        self.task_threads.resize(limit)
        self.blocking_threads.resize(limit)

    def _get_info(self) -> dict[str, Any]:
        return {
            **super()._get_info(),
            "loop": f"{type(self.loop).__module__}.{type(self.loop).__name__}",
            "slots-in-use": self.slots.in_use,
            "tasks": len(self._jobs),
            "waiting": len(self._waiting),
            "threads": self.task_threads.size + self.blocking_threads.size,
            "timeouts": [self.options.get("soft_timeout") or 0, self.options.get("timeout") or 0],
        }

    def _warn_of_limits(self, name: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            logger.warning("%s is not `async def`: threads cannot be stopped, its limits are not kept", name)

    def _refuse_bare_coroutines(self) -> None:
        for name, task in self.app.tasks.items() if self.app is not None else ():
            if inspect.iscoroutinefunction(getattr(task, "_orig_run", task.run)):
                raise ImproperlyConfigured(
                    f"{name} is `async def`: register it with runyard_workers.pool.async_task"
                )


def _is_cold() -> bool:
    return worker_state.should_terminate not in (None, False)


async def _settled(response: Awaitable[Any]) -> None:
    try:
        await response
    except Exception:
        logger.exception("A receiver of loop_stopping failed")
