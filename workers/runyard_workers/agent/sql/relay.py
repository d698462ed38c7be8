"""The way of one query to its database: to addresses that were checked, and no more bytes back than may be read.

The drivers read whole rows into memory, one of them in C, and none has a bound: so they connect to this relay on
loopback, which counts. TLS, if any, is between driver and database; what is counted is what comes over the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from sqlalchemy.engine import URL

from runyard_common.datastores.rules import DatabaseTls
from runyard_workers.agent.sql.results import UNREACHABLE

CONNECT_SECONDS: Final = 5.0
#: How much longer than its limit a query may take in all: connecting, and a server that ends it by itself.
GRACE_SECONDS: Final = 8.0
#: A driver may connect again: without TLS, for example, where the server has none.
_MOST_CONNECTIONS: Final = 4
_PIECE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Way:
    """How a driver gets to its database server: `port` is that of the relay on loopback.

    `own_server` is the identity of the one server that is not asked.
    """

    url: URL
    tls: DatabaseTls
    port: int
    own_server: str | None = None


class Relay:
    """Listens on a port of loopback while the block runs. `failure` is why it broke a connection off."""

    def __init__(self, addresses: Sequence[str], port: int, most_bytes: int, seconds: float) -> None:
        self.failure: str | None = None
        self.received = 0  # bytes
        self._addresses = addresses
        self._target_port = port
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._connections = 0
        self._running: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where the driver connects to, on 127.0.0.1."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_PIECE)
        self._clock = asyncio.get_running_loop().call_later(self._seconds + GRACE_SECONDS, self._expire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clock.cancel()
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _expire(self) -> None:
        late = f"the database did not answer within {self._seconds:g} s" if self.received else UNREACHABLE
        self.failure = self.failure or late
        self._server.close()
        for task in self._running:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._connections += 1
        try:
            if self._connections <= _MOST_CONNECTIONS:
                await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # the block ended, or the time is up; the task has nothing else to do
        finally:
            writer.transport.abort()
            self._running.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected = await self._connected()
        if connected is None:
            return
        from_server, to_server = connected
        try:
            async with asyncio.TaskGroup() as both:
                asking = both.create_task(self._copy(reader, to_server, counted=False))
                await self._copy(from_server, writer, counted=True)
                asking.cancel()  # the server is done: nothing is left to ask
        finally:
            to_server.transport.abort()
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for address in self._addresses:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS / len(self._addresses)):
                    return await asyncio.open_connection(address, self._target_port, limit=_PIECE)
        self.failure = UNREACHABLE
        return None

    async def _copy(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(_PIECE):
                if counted:
                    self.received += len(piece)
                    if self.received > self._most_bytes:
                        self.failure = (
                            f"the database sent more than {self._most_bytes} bytes; select fewer rows, "
                            "or shorter values, such as left(column, 4000)"
                        )
                        return
                to.write(piece)
                await to.drain()
            if not counted:
                to.write_eof()
