"""A proxy in front of PostgreSQL that counts round trips: how often its clients wait for an answer.

with RoundTrips(url) as counted:
    connect(counted.url)
    before = counted.trips
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

#: What a client of PostgreSQL sends when it closes its connection, without waiting.
TERMINATE = b"X\x00\x00\x00\x04"
CHUNK = 1 << 16


@dataclass
class Exchange:
    """One connection: whether the server was the last to send."""

    answered: bool = True


class RoundTrips:
    """The proxy on loopback, on a thread of its own; `trips` may be read at any time and only grows.

    A trip begins when a client sends on a connection whose last bytes came from the server: statements that are sent
    without waiting for the answer between them (a pipeline) are one trip. Opening a connection is one trip or more.
    """

    def __init__(self, url: str, cut_at: int = 0) -> None:
        """At the trip of number `cut_at` every connection is cut, once, as when the server crashes."""
        self._cut_at = cut_at
        self._clients: set[asyncio.StreamWriter] = set()
        self._parts = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="round-trips", daemon=True)
        self._port = 0
        self.trips = 0
        self.connections = 0

    @property
    def url(self) -> str:
        """The same database, through the proxy."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{user}{at}127.0.0.1:{self._port}").geturl()

    def stop_cutting(self) -> int:
        """Cut no connection from here on; the trips until now."""
        self._cut_at = 0
        return self.trips

    def __enter__(self) -> RoundTrips:
        self._thread.start()
        self._server = self._on_loop(asyncio.start_server(self._forward, "127.0.0.1", 0))
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(50)
        self._loop.close()

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _end_all(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for end in self._clients:  # one that came last has not been forwarded
            end.transport.abort()
        await asyncio.sleep(0)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._clients.add(writer)
        server, to_server = await asyncio.open_connection(self._parts.hostname, self._parts.port or 5432)
        exchange = Exchange()
        ways = (
            asyncio.create_task(self._requests(reader, to_server, exchange)),
            asyncio.create_task(_answers(server, writer, exchange)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (to_server, writer):
                end.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (to_server, writer):
                with contextlib.suppress(OSError):
                    await end.wait_closed()
            self._clients.discard(writer)

    async def _requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, exchange: Exchange
    ) -> None:
        while sent := await client.read(CHUNK):
            if exchange.answered and sent != TERMINATE:
                self.trips += 1
                exchange.answered = False
                if self.trips == self._cut_at:
                    for end in self._clients:
                        end.transport.abort()
                    return
            server.write(sent)
            await server.drain()


async def _answers(server: asyncio.StreamReader, client: asyncio.StreamWriter, exchange: Exchange) -> None:
    while received := await server.read(CHUNK):
        exchange.answered = True
        client.write(received)
        await client.drain()
