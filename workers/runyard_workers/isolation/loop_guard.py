"""The event loop's guard: it knows which run executes now, and keeps runs from cancelling what is not theirs.

Agent code shares the loop with the engine. Two things follow. A run that does not give the loop back stops everything
in the process, so it must be known from outside which run that is. And `for task in asyncio.all_tasks(): task.cancel()`
is a common way to clean up in a script: here it may end the run that calls it, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any

import structlog

from runyard_workers.isolation.forks import end_if_forked

logger = structlog.get_logger("runyard.loop")

#: The id of the task on whose behalf code runs; inherited by the asyncio tasks and threads that a run starts.
RUN: ContextVar[str | None] = ContextVar("runyard_run", default=None)


class LoopGuard:
    """Install it on a loop before anything runs there. `executing` may be read from any thread."""

    def __init__(self) -> None:
        self.executing: str | None = None  # the run whose code the loop's thread is in

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the loop's tasks guarded ones."""
        loop.set_task_factory(self._make)

    @contextmanager
    def on_behalf_of(self, run: str) -> Generator[None]:
        """What is started inside belongs to this run."""
        token = RUN.set(run)
        try:
            yield
        finally:
            RUN.reset(token)

    def _make(
        self, loop: asyncio.AbstractEventLoop, coro: Any, *, context: Context | None = None, **options: Any
    ) -> GuardedTask:
        run = RUN.get() if context is None else context.get(RUN)
        if run is not None:
            coro = _Marked(coro, self, run)
        return GuardedTask(coro, loop=loop, context=context, run=run, **options)


class GuardedTask(asyncio.Task[Any]):
    """A task that knows its run, and refuses to be cancelled by another."""

    __slots__ = ("run",)

    def __init__(self, coro: Any, *, run: str | None, **options: Any) -> None:
        self.run = run
        super().__init__(coro, **options)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, unless the code of another run asks for it: then nothing happens, and the log names that run."""
        caller = RUN.get()
        if caller is not None and caller != self.run:
            logger.warning(
                "A run tried to cancel a task that is not its own", action="cancel", task=caller,
                of=self.run or "the worker", name=self.get_name(),
            )  # fmt: skip
            return False
        return super().cancel(msg)

    def get_coro(self) -> Any:
        """The coroutine as it was given."""
        coro = super().get_coro()
        return coro.inner if isinstance(coro, _Marked) else coro


class _Marked(Coroutine[Any, Any, Any]):
    """A run's coroutine that notes, at each step, that the loop is in this run's code."""

    __slots__ = ("_guard", "_run", "inner")

    def __init__(self, inner: Coroutine[Any, Any, Any], guard: LoopGuard, run: str) -> None:
        self.inner = inner
        self._guard = guard
        self._run = run

    def send(self, value: Any) -> Any:
        """Go on to the next await."""
        end_if_forked()
        guard, before = self._guard, self._guard.executing
        guard.executing = self._run
        try:
            return self.inner.send(value)
        finally:
            guard.executing = before
            end_if_forked()

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        """Go on with an exception."""
        guard, before = self._guard, self._guard.executing
        guard.executing = self._run
        try:
            if value is None and trace is None:
                return self.inner.throw(kind)
            return self.inner.throw(kind, value, trace)
        finally:
            guard.executing = before
            end_if_forked()

    def close(self) -> None:
        """End the coroutine."""
        self.inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.inner.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # cr_frame, cr_running …: what debuggers and anyio look at
