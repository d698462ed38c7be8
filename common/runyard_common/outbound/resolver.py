"""Looking up host names without letting one dead name server hold up the rest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from runyard_common.outbound.errors import DnsFailed

#: Names known as slow; beyond, the oldest are forgotten.
_REMEMBERED: Final = 1_000


class Resolver(Protocol):
    """The seam between the guard and the name system."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of `host` as text, preferred first; `DnsFailed` when it has none."""
        ...


class SystemResolver:
    """The system's own lookup (hosts file, search domains), each in a daemon thread.

    Lookups of one name that overlap share one answer, and at most `parallel` names are looked up at once. A lookup
    that takes longer than `quick` seconds gives its slot back, and its name moves to a pool of its own:
    slow names cannot delay healthy ones. The event loop's executor is not used: blocking agent code runs there, and
    a lookup can take half a minute.
    """

    def __init__(self, parallel: int = 64, quick: float = 1.0) -> None:
        self._slots = asyncio.Semaphore(parallel)
        self._slow_slots = asyncio.Semaphore(parallel)
        self._slow: dict[str, None] = {}  # names, those that came in first at the front
        self._quick = quick
        self._flights: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """As `Resolver.resolve`, by getaddrinfo."""
        key = (host, port)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._look_up(host, port))
            flight.add_done_callback(lambda done: self._land(key, done))
        return await asyncio.shield(flight)  # a caller that gives up must not fail the others

    def _land(self, key: tuple[str, int], flight: asyncio.Task[list[str]]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # seen, even when every caller has given up

    async def _look_up(self, host: str, port: int) -> list[str]:
        if host in self._slow:
            async with self._slow_slots:
                answer = _asked(host, port)
                if await _came(answer, self._quick):
                    self._slow.pop(host, None)
                return await answer
        async with self._slots:
            answer = _asked(host, port)
            if not await _came(answer, self._quick):
                self._slow[host] = None
                if len(self._slow) > _REMEMBERED:
                    del self._slow[next(iter(self._slow))]
        return await answer


def _asked(host: str, port: int) -> asyncio.Future[list[str]]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()
    threading.Thread(target=_ask, args=(host, port, loop, answer), name=f"dns {host}", daemon=True).start()
    return answer


async def _came(answer: asyncio.Future[list[str]], within: float) -> bool:
    done, _ = await asyncio.wait([answer], timeout=within)
    return bool(done)


def _ask(host: str, port: int, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[str]]) -> None:
    outcome: list[str] | DnsFailed
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        outcome = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a valid name"
        outcome = DnsFailed(f"{host} could not be resolved: {reason}.")
    with contextlib.suppress(RuntimeError):  # the loop closed meanwhile: there is no waiter
        loop.call_soon_threadsafe(_settle, answer, outcome)


def _settle(answer: asyncio.Future[list[str]], outcome: list[str] | DnsFailed) -> None:
    if answer.cancelled():
        return
    if isinstance(outcome, DnsFailed):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
