"""The one way into an agent's own code, on the loop or in a thread: it may end by an ordinary exception, or by what
the engine ordered, and by nothing else."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import CodeType
from typing import Any

from runyard import branches
from runyard.errors import Cancelled
from runyard_workers.agent_code.exceptions import abnormal, judged
from runyard_workers.attempts.attempt import Attempt, Suspended
from runyard_workers.attempts.replay import GatheringFailed
from runyard_workers.isolation.contained import Contained
from runyard_workers.isolation.siblings import Siblings

#: How near its deadline an attempt counts as out of time, in seconds: clocks differ by a little.
_NEAR = 0.05
_inside: ContextVar[Siblings | None] = ContextVar("runyard_user_code", default=None)


async def call(attempt: Attempt, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What `fn` returns, awaited where it is to be awaited. A plain function runs in a thread.

    Raises what `fn` raises, if that is an `Exception`; a suspension, or the cancellation by which the engine or a
    time limit of the caller ends it; `AbnormalExit` in place of everything else.
    """
    _contain_tasks(asyncio.get_running_loop())
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    attempt.siblings.add(task)
    token = _inside.set(attempt.siblings)
    try:
        result = await (fn(*args, **kwargs) if is_async(fn) else _result(attempt, fn, args, kwargs))
        if task.cancelling() > before:
            await asyncio.sleep(0)  # a cancellation that it ordered for itself bites here, not in the engine
        return result
    except Exception:
        raise
    except BaseException as error:
        ordinary = _judged(error, is_leaving(attempt), task.cancelling() > before)
        if ordinary is error:
            raise
        raise ordinary from error
    finally:
        _inside.reset(token)


def call_in_thread(fn: Callable[..., Any], leaving: Callable[[], bool], /, *args: Any, **kwargs: Any) -> Any:
    """The same inside a thread, where a `StopIteration` must not reach the future of the thread's result either."""
    branches.begin()
    _inside.set(None)  # the calls of a thread are tasks of the engine
    try:
        return fn(*args, **kwargs)
    except (StopIteration, StopAsyncIteration) as error:
        raise abnormal(error) from error
    except Exception:
        raise
    except BaseException as error:
        ordinary = _judged(error, leaving(), False)
        if ordinary is error:
            raise
        raise ordinary from error


def is_leaving(attempt: Attempt) -> bool:
    """Whether the engine wants the attempt to end: a cancellation, a lost lease, a drain, or its deadline."""
    left = attempt.seconds_left()
    return attempt.ended_by is not None or (left is not None and left <= _NEAR)


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a coroutine: `async def`, or an object whose call is."""
    code = getattr(fn, "__code__", None)
    if isinstance(code, CodeType) and code.co_flags & inspect.CO_COROUTINE:
        return True  # as `inspect` finds out by and by
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


async def _result(attempt: Attempt, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with attempt.siblings.served():
        result = await attempt.run_blocking(call_in_thread, fn, lambda: is_leaving(attempt), *args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def _judged(error: BaseException, leaving: bool, cancelled: bool) -> BaseException:
    """`error` itself where it is the engine's, else the ordinary exception in its place."""

    def is_ordered(error: BaseException) -> bool:
        return (
            isinstance(error, Suspended | GatheringFailed)
            or (isinstance(error, Cancelled) and leaving)
            or (isinstance(error, asyncio.CancelledError) and (leaving or cancelled))
        )

    return judged(error, is_ordered, _merged)


def _merged(errors: Sequence[BaseException]) -> BaseException:
    suspended = [error for error in errors if isinstance(error, Suspended)]
    return Suspended.merged(suspended) if suspended else errors[0]


def _contain_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let the tasks that agents start be contained; those of the engine are made as ever."""
    previous = loop.get_task_factory()
    if getattr(previous, "contains", False):
        return

    def make(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        context = options.get("context")
        siblings = _inside.get() if context is None else context.get(_inside)
        if siblings is not None and inspect.iscoroutine(coro):
            coro = Contained(coro)
        task: Any = previous(loop, coro, **options) if previous else asyncio.Task(coro, loop=loop, **options)
        if siblings is not None:
            siblings.add(task)
        return task

    make.contains = True  # type: ignore[attr-defined]
    loop.set_task_factory(make)
