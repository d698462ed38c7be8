"""One Celery request in the pool: from the wait for a slot to the word that it is over."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Protocol

from billiard.einfo import ExceptionInfo
from celery.exceptions import SoftTimeLimitExceeded, WorkerLostError
from celery.utils.log import get_logger
from celery.worker.request import Request

from runyard_workers.pool.greenlets import TaskGreenlet
from runyard_workers.pool.slots import Slots
from runyard_workers.pool.threads import DaemonThreads

logger = get_logger("celery.pool")

CLEANUP_SECONDS = 2.0  # what a cancelled coroutine has for its `finally` blocks before it is closed


class TaskCancelled(Exception):
    """The task's coroutine ended in a cancellation that nobody outside of it had ordered."""


class State(Enum):
    """Where a job stands. Only a running job's outcome is told to Celery."""

    WAITING = "waiting"  # handed over, holds no slot; its message is not acknowledged
    RUNNING = "running"  # accepted: holds a slot, an early acknowledgement was sent
    REVOKED = "revoked"  # Celery recorded the end (revoke, cold cancel), whatever the code still does
    EXPIRED = "expired"  # out of time: the hard limit is recorded
    LOST = "lost"  # the pool stops: an unacknowledged message goes back to the broker


@dataclass(frozen=True, slots=True)
class Order:
    """What Celery asks of a pool: call `target`, and report to these callbacks. Limits in seconds."""

    target: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    callback: Callable[..., Any] | None = None
    error_callback: Callable[..., Any] | None = None
    accept_callback: Callable[..., Any] | None = None
    timeout_callback: Callable[..., Any] | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    correlation_id: str | None = None


class Host(Protocol):
    """What a job needs of its pool."""

    slots: Slots
    task_threads: DaemonThreads
    blocking_threads: DaemonThreads

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that tasks run on."""

    def admitted(self, job: Job) -> None:
        """The job no longer waits for a slot."""


class Job:
    """A request on its way through the pool.

    Celery holds it weakly, as the result of `apply_async`, and calls `terminate` on it from any thread;
    everything else happens on the loop.
    """

    def __init__(self, host: Host, order: Order, *, on_loop: bool) -> None:
        self.order = order
        self.on_loop = on_loop
        self.state = State.WAITING
        self._host = host
        self._begun = False
        self._accepted = False
        self._task: asyncio.Task[None] | None = None
        self._greenlet: TaskGreenlet[Any] | None = None
        self._record: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin, on the loop."""
        self._task = self._host.loop.create_task(self._run(), name=f"celery-task-{self.order.correlation_id}")
        return self._task

    def terminate(self, signal: int | None = None) -> None:
        """Celery has recorded, or will record at the acceptance, that this request is revoked: stop it.

        A thread cannot be stopped: it keeps its slot until it returns, and its outcome is dropped.
        """
        self._end(State.REVOKED, self._on_revoked)

    def lose(self) -> None:
        """The pool stops: stop this job, leave its thread behind if it has one, and say nothing of it."""
        self._end(State.LOST, self._cancel)

    def _end(self, state: State, stop: Callable[[], None]) -> None:
        # Set at once, so that a task revoked by its own acceptance does not get as far as its first await.
        if self._alive():
            self.state = state
        with suppress(RuntimeError):  # the loop is closed: nothing is left to stop
            self._host.loop.call_soon_threadsafe(stop)

    async def _run(self) -> None:
        self._begun = True
        with suppress(asyncio.CancelledError):  # we ordered it, and who had to know knows
            if self.state is State.WAITING:
                async with self._host.slots:
                    if self._accept():
                        await self._work()
        self._host.admitted(self)
        if self.state is State.REVOKED and not self._accepted:  # accepting it, Celery settles its message
            self._tell(self.order.accept_callback, os.getpid(), time.monotonic())
        if self._record is not None:
            await self._record

    def _accept(self) -> bool:
        """Tell Celery that the job starts; an early acknowledgement goes out. False if it must not start."""
        self._host.admitted(self)
        if self.state is not State.WAITING:
            return False
        request = getattr(self.order.accept_callback, "__self__", None)
        self._accepted = True
        if isinstance(request, Request) and request.revoked():  # or past its `expires`, while it waited
            self.state = State.REVOKED
            return False
        self.state = State.RUNNING
        self._tell(self.order.accept_callback, os.getpid(), time.monotonic())
        return self._running()

    async def _work(self) -> None:
        limit = self._arm()
        try:
            outcome = await self._start_work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a SystemExit in a task must not end the loop
            await self._fail(error)
        else:
            if self._running():
                self._tell(self.order.callback, outcome)
        finally:
            if limit is not None:
                limit.cancel()

    def _start_work(self) -> Awaitable[Any]:
        call = partial(self.order.target, *self.order.args, **self.order.kwargs)
        if self.on_loop:
            self._greenlet = TaskGreenlet(call, self._guard)
            return self._greenlet
        return self._host.loop.run_in_executor(self._host.task_threads, call)

    async def _guard(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a task's coroutine within its limits.

        When Celery has recorded the end already, a cancellation passes the tracer without a trace, so that
        nothing the coroutine does on its way out (an error, a retry, a result) overwrites the record.
        """
        try:
            result = await self._within_soft_limit(coroutine)
        except asyncio.CancelledError as error:
            if self._running():
                raise TaskCancelled("the task was cancelled from within") from error
            raise
        except Exception as error:
            if not self._running():
                raise asyncio.CancelledError(self.state.value) from error
            raise
        if not self._running():
            raise asyncio.CancelledError(self.state.value)
        return result

    async def _within_soft_limit(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        # A cancellation, not an exception out of nowhere: task groups and timeouts inside clean up after it.
        limit = asyncio.timeout(self.order.soft_timeout)
        try:
            async with limit:
                return await coroutine
        except TimeoutError as error:
            if limit.expired():
                raise SoftTimeLimitExceeded(self.order.soft_timeout) from error
            raise
        finally:
            if limit.expired() and self._running():
                self._tell(self.order.timeout_callback, True, self.order.soft_timeout)

    def _arm(self) -> asyncio.TimerHandle | None:
        if not self.on_loop or not self.order.timeout:
            return None
        return self._host.loop.call_later(self.order.timeout, self._expire)

    def _expire(self) -> None:
        if self._running():
            self.state = State.EXPIRED
            # The record is written to the result backend, which may be slow or away: not on the loop.
            self._record = self._host.loop.create_task(
                self._tell_in_thread(self.order.timeout_callback, False, self.order.timeout)
            )
            self._cancel()

    def _on_revoked(self) -> None:
        if self._accepted and not self.on_loop:
            logger.warning("%s runs in a thread, which cannot be stopped", self.order.correlation_id)
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is None or self._task.done() or not self._begun:  # before it begins, it looks itself
            return
        self._task.cancel(self.state.value)
        self._host.loop.call_later(CLEANUP_SECONDS, self._abandon)

    def _abandon(self) -> None:
        if self._task is None or self._task.done() or self._greenlet is None or self._greenlet.abandoned:
            return
        logger.error("%s ignored its cancellation for %s s: closed", self._task.get_name(), CLEANUP_SECONDS)
        self._greenlet.abandoned = True
        self._task.cancel(self.state.value)

    async def _fail(self, error: BaseException) -> None:
        """The tracer itself failed, or was left by an exception that is no Exception."""
        if not self._running():
            return
        if not isinstance(error, Exception):
            lost = WorkerLostError(repr(error))
            lost.__cause__, lost.__traceback__ = error, error.__traceback__
            error = lost
        info = ExceptionInfo((type(error), error, error.__traceback__))
        await self._tell_in_thread(self.order.error_callback, info)

    async def _tell_in_thread(self, callback: Callable[..., Any] | None, *args: Any) -> None:
        call = partial(self._tell, callback, *args)
        await self._host.loop.run_in_executor(self._host.blocking_threads, call)

    def _tell(self, callback: Callable[..., Any] | None, *args: Any) -> None:
        if callback is None:
            return
        try:
            callback(*args)
        except Exception:
            logger.exception("Celery's %s failed for task %s", callback, self.order.correlation_id)

    def _running(self) -> bool:
        return self.state is State.RUNNING

    def _alive(self) -> bool:
        return self.state in (State.WAITING, State.RUNNING)
