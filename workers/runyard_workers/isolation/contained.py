"""Tasks of an agent's code: asyncio lets the `SystemExit` of one end its whole loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Generator
from typing import Any

from runyard_workers.agent_code.exceptions import abnormal


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose `SystemExit` stays its own: from a task of its own, asyncio lets one end the whole loop."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        """As the coroutine's."""
        try:
            return self._inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise abnormal(error) from error

    def throw(self, *error: Any) -> Any:
        """As the coroutine's."""
        try:
            return self._inner.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise abnormal(raised) from raised

    def close(self) -> None:
        """As the coroutine's."""
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """A task factory for loops that run nothing but an agent's code."""
    return asyncio.Task(Contained(coro) if inspect.iscoroutine(coro) else coro, loop=loop, **options)
