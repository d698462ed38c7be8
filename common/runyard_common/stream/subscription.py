"""One local follower: a bounded queue of what it should hear; what overflows it becomes a gap."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from runyard_common.values.logged_event import LoggedEvent

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class _Fanned:
    """What many followers are handed as one object: what one makes of it, it makes for all."""

    _made: dict[object, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, make: Callable[[Self], M]) -> M:
        """What this function makes of it; called for the first follower only."""
        if make not in self._made:
            self._made[make] = make(self)
        made: M = self._made[make]
        return made


@dataclass(frozen=True, slots=True)
class Events(_Fanned):
    """Committed events {task_id, seq, type, attempt, data, at}, in the order of their commits."""

    events: list[LoggedEvent]


@dataclass(frozen=True, slots=True)
class Tokens(_Fanned):
    """Token deltas of one attempt."""

    task_id: str
    attempt: int
    tokens: list[Any]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may have been missed: read the database."""


Item = Events | Tokens | Gap
GAP: Final = Gap()


class Subscription:
    """What a follower of an organisation, or of one of its tasks, is yet to hear. Lives on one event loop."""

    def __init__(
        self,
        org_id: str,
        task_id: str | None,
        tokens: bool,
        limit: int,
        on_close: Callable[[Subscription], None],
    ) -> None:
        self.org_id = org_id
        self.task_id = task_id
        self.tokens = tokens
        self._limit = limit
        self._on_close = on_close
        self._items: deque[Item] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def push(self, item: Item) -> None:
        """Add an item; a follower that is too slow loses what is queued and hears of a gap."""
        items = self._items
        if item is GAP:
            if items and items[-1] is GAP:
                return
        elif len(items) >= self._limit:
            items.clear()
            item = GAP
        items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, within: float) -> Item | None:
        """The next item, or None when there was none for `within` seconds."""
        if not self._items:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            handle = loop.call_later(within, _wake, self._waiter)
            try:
                await self._waiter
            finally:
                handle.cancel()
                self._waiter = None
        return self._items.popleft() if self._items else None

    def close(self) -> None:
        """Follow no more."""
        self._on_close(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
