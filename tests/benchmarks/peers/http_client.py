"""An HTTP/1.1 client that costs little: what the load uses of the processor, the subject has not.

Standard library only: it runs in the virtualenv of each peer.
"""

from __future__ import annotations

import asyncio
import json

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


class Refused(Exception):
    """An answer with another status than the one that means success."""


class Http:
    """Keep-alive connections to an api on loopback, as many as there are requests at once."""

    def __init__(self, port: int, key: str = "") -> None:
        self._port = port
        self._head = f"host: 127.0.0.1\r\nauthorization: Bearer {key}\r\n" if key else "host: 127.0.0.1\r\n"
        self._idle: list[_Connection] = []

    async def post(self, path: str, content: object, status: int = 202) -> bytes:
        """POST JSON; the body of the answer."""
        body = json.dumps(content)
        head = f"{self._head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        return await self._exchange(f"POST {path} HTTP/1.1\r\n{head}{body}".encode(), status)

    async def get(self, path: str) -> bytes:
        """GET; the body of the answer, whose status has to be 200."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode(), 200)

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()

    async def _exchange(self, request: bytes, status: int) -> bytes:
        connection = self._open() or await self._connect()
        found, body = await connection.send(request)
        if found != status:
            connection.close()
            raise Refused(f"{found}, not {status}: {body.decode(errors='replace')}")
        self._idle.append(connection)
        return body

    def _open(self) -> _Connection | None:
        """An idle connection that the server has not closed since."""
        while self._idle:
            if not (connection := self._idle.pop()).closed:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        return connection


class _Connection(asyncio.Protocol):
    """One request after another. Answers need a content-length, which all subjects send."""

    closed = False
    _transport: asyncio.WriteTransport
    _answer: asyncio.Future[tuple[int, bytes]]

    def send(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data
        head, end, body = received.partition(_HEAD_END)
        if not end:
            return
        _, _, length = head.lower().partition(_LENGTH)
        if len(body) >= int(length.split(b"\r\n", 1)[0]) and not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if hasattr(self, "_answer") and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"closed before the answer: {error}"))
