"""Attempts whose process is lost behind one of their writes, and how many writes an attempt makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from runyard_common.database.group_commit import GroupCommit

#: Cancellations of an agent that will not end: one that swallows them is left behind.
_MOST_CANCELS: Final = 300


class CountingWriter:
    """A writer that counts, and is lost with its process after `most` writes; None: never."""

    def __init__(self, inner: GroupCommit, most: int | None) -> None:
        self._inner = inner
        self._most = most
        self.writes = 0
        self.dead = asyncio.Event()

    async def call(self, batch: Callable[..., Any], command: Any) -> Any:
        """As `GroupCommit.call`, until the end."""
        if not self.dead.is_set():
            answer = await self._inner.call(batch, command)
            self.writes += 1
            if self._most is None or self.writes < self._most:
                return answer
            self.dead.set()
        return await asyncio.Event().wait()


async def until_ended(running: asyncio.Task[Any], dead: asyncio.Event) -> None:
    """Wait for the attempt's end, or for the loss of its process."""
    waits: Sequence[asyncio.Task[Any]] = [asyncio.create_task(dead.wait())]
    try:
        await asyncio.wait({running, *waits}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
        for _ in range(_MOST_CANCELS):  # what it does about its end has no effect either
            if running.done():
                break
            running.cancel()
            await asyncio.wait({running}, timeout=0.01)
