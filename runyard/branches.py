"""Whether the code of an agent or of a step has branched into threads or tasks: the calls of those may come in another
order the next time."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from threading import get_ident
from typing import Any

#: The thread and the task that the code began in. Threads of its own do not know it, unless they copy the context.
_began: ContextVar[tuple[int, int | None] | None] = ContextVar("runyard_code_began", default=None)


def begin() -> None:
    """The code begins here."""
    task = _current()
    _began.set((get_ident(), None if task is None else id(task)))


def branched() -> bool:
    """Whether this is a thread that the code has started, or another of its tasks goes on beside this one."""
    began = _began.get()
    if began is None or began[0] != get_ident():
        return True
    task = _current()
    return task is not None and any(
        other is not task and id(other) != began[1] for other in asyncio.all_tasks()
    )


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
