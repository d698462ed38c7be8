"""Coroutines under synchronous callers: a greenlet per task, whose waits an asyncio.Task hands to the loop.

Celery's tracer is synchronous and long: it pushes the request, sends the signals, retries, links and stores.
It runs here unchanged, in a greenlet. When the coroutine under it waits for a future, the greenlet is left
with that future; the asyncio.Task around it yields it to the loop and comes back with the outcome. The
coroutine is stepped inside the greenlet, as Celery finds `self.request` by the greenlet that asks.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar, cast

import greenlet

P = ParamSpec("P")
T = TypeVar("T")
Guard = Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]


class TaskGreenlet(greenlet.greenlet, Generic[T]):  # type: ignore[misc]
    """An awaitable for `call()`, which may `wait` for coroutines although it is no coroutine itself.

    `guard` wraps each of those coroutines: that is where time limits live. Set `abandoned` and cancel the
    asyncio.Task to close a coroutine that swallows its cancellations.
    """

    def __init__(self, call: Callable[[], T], guard: Guard) -> None:
        super().__init__(call)
        self.guard = guard
        self.abandoned = False
        self.gr_context = greenlet.getcurrent().gr_context  # the asyncio.Task's own variables, not a copy

    def __await__(self) -> Generator[Any, None, T]:
        error: BaseException | None = None
        while True:
            self.parent = greenlet.getcurrent()  # an eager task may have stepped us from elsewhere before
            waited_for = self.switch() if error is None else self.throw(error)
            error = None
            if self.dead:
                return cast("T", waited_for)
            try:
                yield waited_for
            except BaseException as outcome:  # noqa: BLE001 - thrown into the greenlet, cancellations included
                error = outcome

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` to its end, leaving this greenlet whenever it waits."""
        guarded = self.guard(coroutine)
        error: BaseException | None = None
        while True:
            try:
                waited_for = guarded.send(None) if error is None else guarded.throw(error)
            except StopIteration as stop:
                return cast("T", stop.value)
            finally:
                error = None  # it would hold this frame, which holds it
            try:
                self.parent.switch(waited_for)
            except BaseException as outcome:
                if self.abandoned:
                    with suppress(RuntimeError):  # a coroutine that ignores even this is left where it stands
                        guarded.close()
                    raise
                error = outcome


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine in synchronous code.

    Under the asyncio pool this suspends the task; anywhere else (another pool, an eager call) it takes an
    event loop of its own. Raises RuntimeError on a running loop outside of a task.
    """
    me = greenlet.getcurrent()
    if isinstance(me, TaskGreenlet):
        return cast("T", me.wait(coroutine))
    return asyncio.run(coroutine)


def async_task(app: Any, **options: Any) -> Callable[[Callable[..., Coroutine[Any, Any, Any]]], Any]:
    """Register an `async def` function as a task of `app`, a `celery.Celery`; `options` as for `app.task`.

    It behaves as any other task: `bind`, `self.retry()`, `autoretry_for`, limits, links and results work.
    Raises TypeError for a plain function.
    """

    def register(function: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is not `async def`: register it with `app.task`")

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return wait(function(*args, **kwargs))

        # Celery checks call arguments against the signature, and does not follow __wrapped__.
        run.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return app.task(run, runs_on_loop=True, **options)

    return register
