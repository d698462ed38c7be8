"""An ASGI application served by a thread of its own, for the fakes that a test starts and ends for itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    """Ends when it is asked to. Uvicorn looks each tenth of a second, and gives connections another tenth to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = threading.Event()

    async def main_loop(self) -> None:
        self._asked, self._loop = asyncio.Event(), asyncio.get_running_loop()
        await self.on_tick(0)
        self.serving.set()
        await self._asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._asked.set)


@contextlib.contextmanager
def served(application: Any, name: str) -> Iterator[str]:
    """The address of the application's root, such as http://127.0.0.1:40123, until the end of the block."""
    server = _Server(uvicorn.Config(application, port=0, log_level="critical", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, name=name, daemon=True)
    thread.start()
    assert server.serving.wait(50), f"{name} did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.end()
        thread.join(50)
