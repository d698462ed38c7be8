"""Whether the code of an agent or of a step has branched into threads or tasks: the calls of those may come in another
order the next time."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any

#: The thread and the task that the code began in. Threads of its own do not know it, unless they copy the context.
_began: ContextVar[tuple[int, int | None] | None] = ContextVar("runyard_code_began", default=None)
#: Whether what calls is a library of agents.
_in_library: ContextVar[bool] = ContextVar("runyard_in_library", default=False)


def begin() -> None:
    """The code begins here."""
    task = _current()
    _began.set((get_ident(), None if task is None else id(task)))


def branched() -> bool:
    """Whether this is a thread that the code has started, or another of its tasks goes on beside this one."""
    began = _began.get()
    if began is None or began[0] != get_ident():
        return True
    if _current() is None:
        return False
    return any_other(task for task in asyncio.all_tasks() if id(task) != began[1])


@contextmanager
def in_library() -> Generator[None]:
    """Inside, a library of agents calls: the tasks beside this one are its own, and call nothing."""
    token = _in_library.set(True)
    try:
        yield
    finally:
        _in_library.reset(token)


def any_other(tasks: Iterable[asyncio.Task[Any]]) -> bool:
    """Whether one of these tasks of the code goes on beside the present one."""
    me = _current()
    return not _in_library.get() and any(task is not me and not task.done() for task in tasks)


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
