"""MCP servers of the OpenAI Agents SDK: those that are not connected are for as long as a run uses them.

A connection belongs to the task that opened it, and runs that use a server at the same time share it.
"""

from __future__ import annotations

import asyncio
from contextvars import Context as Variables
from typing import Any, Final

from runyard.errors import ProviderError

#: How long a run waits for a server that does not answer to the end of its connection, in seconds.
_LONGEST_CLOSE: Final = 5.0


class _Connection:
    """A server that is connected while runs use it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.users = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.unused = asyncio.Event()
        # Of no run: the one that is first to use it may not be the last.
        self.task = asyncio.create_task(self._keep(), context=Variables())

    async def _keep(self) -> None:
        try:
            try:
                await self.server.connect()
            except Exception as error:  # noqa: BLE001 - each run that waits for it gets it
                self.ready.set_exception(error)
                self.ready.exception()  # where no run waits any more
            else:
                self.ready.set_result(None)
                await self.unused.wait()
        finally:
            if _connections.get(id(self.server)) is self:
                del _connections[id(self.server)]
            await self.server.cleanup()


_connections: Final[dict[int, _Connection]] = {}


class Servers:
    """The servers that one run uses."""

    def __init__(self) -> None:
        self._used: dict[int, _Connection] = {}

    async def connect(self, servers: list[Any]) -> None:
        """Return once these are connected. Raises `ProviderError` mcp_unreachable."""
        for server in servers:
            if id(server) in self._used or getattr(server, "session", server) is not None:
                continue  # its author's own connection, or a kind of server that has none
            connection = _connections.get(id(server))
            while connection is not None and connection.unused.is_set():
                await asyncio.wait({connection.task})
                connection = _connections.get(id(server))
            if connection is None:
                connection = _connections[id(server)] = _Connection(server)
            connection.users += 1
            self._used[id(server)] = connection
            try:
                await asyncio.shield(connection.ready)
            except Exception as error:
                name = getattr(server, "name", type(server).__name__)
                raise ProviderError(
                    f"The MCP server {name} cannot be reached: {error}", code="mcp_unreachable"
                ) from error

    async def release(self) -> None:
        """Return once those that no other run uses are closed."""
        used, self._used = list(self._used.values()), {}
        for connection in used:
            connection.users -= 1
            if not connection.users:
                connection.unused.set()
                await asyncio.wait({connection.task}, timeout=_LONGEST_CLOSE)
