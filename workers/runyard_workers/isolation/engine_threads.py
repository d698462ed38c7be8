"""Threads for the engine's own blocking calls: short ones to the database, the files and the broker.

Agents have theirs. However many of those hang, the engine reads, enlists and drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from runyard_workers.isolation.threads import DaemonThreads

P = ParamSpec("P")
T = TypeVar("T")

_threads = DaemonThreads(8, "engine")
#: For long answers of others, which the engine's own calls do not wait behind.
_readers = DaemonThreads(2, "answers")


async def in_engine_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `fn(*args, **kwargs)` in one of the engine's threads. A cancelled caller stops waiting at once."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(fn, *args, **kwargs))


async def in_reader_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_engine_thread`, for reading what others have sent: it may take seconds, and two are read at a time."""
    return await asyncio.get_running_loop().run_in_executor(_readers, partial(fn, *args, **kwargs))
