"""What an agent's code gives to be awaited: calls to `ctx.gather`, and what its functions return in a thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from runyard.errors import AgentError

T = TypeVar("T")


def awaiting(given: Any) -> Callable[[], Awaitable[Any]]:
    """A call that awaits this. Raises `AgentError` invalid_call for what cannot be awaited."""
    if not inspect.isawaitable(given):
        raise AgentError(
            f"ctx.gather: pass calls such as ctx.run(…) without await, not {type(given).__name__}.",
            code="invalid_call",
            call="ctx.gather",
        )

    async def call() -> Any:
        return await given

    return call


def callable_(fn: Any) -> Callable[[], Any]:
    """The function of a plain agent. Raises `AgentError` invalid_call for what is none."""
    if not callable(fn):
        raise AgentError(
            f"ctx.gather: pass functions, such as lambda: ctx.run(…), not {type(fn).__name__}.",
            code="invalid_call",
            call="ctx.gather",
        )
    return fn  # type: ignore[no-any-return]


def close(given: Sequence[Any]) -> None:
    """Close coroutines that are not awaited after all."""
    for one in given:
        if inspect.iscoroutine(one) and inspect.getcoroutinestate(one) == inspect.CORO_CREATED:
            one.close()


async def result_of(future: Future[T]) -> T:
    """The result of a thread. One that comes after its caller has left is dropped: a coroutine is closed."""
    try:
        return await asyncio.wrap_future(future)
    except TimeoutError as error:
        raised = future.exception() or error
    except BaseException:
        future.add_done_callback(_drop)
        raise
    raise raised  # asyncio copies a `TimeoutError`, without its traceback, its cause and what else it has


def _drop(future: Future[Any]) -> None:
    if not future.cancelled() and future.exception() is None:
        close([future.result()])
