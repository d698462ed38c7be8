"""Turns at hashing passwords: a hash takes a core for most of a second, so few are made at once.

Networks take turns, so that a network with many sign-ins delays only its own; a person has few under way, successful or
not, because signing in repeatedly with one's own password must not block others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from runyard_common.values.errors import TooManyRequests

#: Hashes at once: each takes a core and 32 MB.
AT_ONCE: Final = 2
#: Hashes under way or waiting for one person, and waiting for one network.
FOR_PERSON: Final = 4
FOR_NETWORK: Final = 100


class HashQueue:
    """Belongs to one event loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._of_person: Counter[str] = Counter()

    @asynccontextmanager
    async def slot(self, network: str, person: str) -> AsyncGenerator[None, None]:
        """Hold a turn for the block. `TooManyRequests` too_many_sign_ins where too many are wanted already."""
        queue = self._waiting.get(network, ())
        if self._of_person[person] >= FOR_PERSON or len(queue) >= FOR_NETWORK:
            raise TooManyRequests(
                "Too many sign-ins at once: send the next when the ones before have been answered.",
                code="too_many_sign_ins",
                retry_after=2,
            )
        self._of_person[person] += 1
        try:
            await self._wait_for_slot(network)
            try:
                yield
            finally:
                self._pass_on()
        finally:
            self._of_person[person] -= 1
            if not self._of_person[person]:
                del self._of_person[person]

    async def _wait_for_slot(self, network: str) -> None:
        if self._free:
            self._free -= 1
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(network, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # it was given the turn that it no longer wants
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give the turn to the first of the network that has waited longest for one."""
        while self._waiting:
            network, queue = next(iter(self._waiting.items()))
            following = queue.popleft()
            if queue:
                self._waiting.move_to_end(network)
            else:
                del self._waiting[network]
            if not following.done():  # one that is done was cancelled while it waited
                following.set_result(None)
                return
        self._free += 1
