"""Calling an author's tool: every way out of it is its result or its failure.

A tool may raise what would end a worker's event loop (`SystemExit`), what looks like the run's own cancellation
(`CancelledError`), or what a thread cannot hand on (`StopIteration`): none of it leaves this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from runyard_workers.agent.wire.text import clean

logger = structlog.get_logger("runyard.tools")

_LONGEST: Final = 2000
_MOST_INNER: Final = 5
#: Seconds that a cancelled tool has to end; after that it is left to itself.
_LEAVING_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Raised:
    """A call that ended with an exception."""

    error: BaseException


async def in_task(fn: Callable[..., Awaitable[Any]], arguments: dict[str, Any]) -> Any:
    """Await ``fn(**arguments)`` in a task of its own: its result, or `Raised`.

    A tool that cancels its own task cancels that one. The caller's cancellation cancels the tool.
    """
    task = asyncio.create_task(_captured(fn, arguments))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        _, left = await asyncio.wait({task}, timeout=_LEAVING_SECONDS)
        if left:
            logger.warning("A tool that was cancelled does not end", action="tool_left", tool=fn.__qualname__)
        raise
    return Raised(asyncio.CancelledError()) if task.cancelled() else task.result()


async def _captured(fn: Callable[..., Awaitable[Any]], arguments: dict[str, Any]) -> Any:
    try:
        return await fn(**arguments)
    except BaseException as error:  # noqa: BLE001 - an exit or a cancellation of the tool's own is a failure like others
        return Raised(error)


def in_thread(fn: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call ``fn(**arguments)`` in this thread: its result, or `Raised`."""
    try:
        return fn(**arguments)
    except BaseException as error:  # noqa: BLE001 - as above; StopIteration would never reach the caller's future
        return Raised(error)


def describe(error: BaseException) -> str:
    """An exception as a model may see it: its class and its text, a group with what is in it."""
    text = f"{_name(error)}: {_text(error)}" if _text(error) else _name(error)
    if isinstance(error, BaseExceptionGroup):
        inner = [describe(one) for one in error.exceptions[:_MOST_INNER]]
        more = len(error.exceptions) - len(inner)
        text += ": " + "; ".join([*inner, *([f"and {more} more"] if more else [])])
    return text[:_LONGEST]


def _name(error: BaseException) -> str:
    return clean(type(error).__name__)


def _text(error: BaseException) -> str:
    try:
        return clean(str(error))[:_LONGEST]
    except BaseException:  # noqa: BLE001 - its own __str__ may raise anything
        return "its text cannot be read"
