"""The HTTP client of the load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.benchmarks.peers.http_client import Http, Refused
from tests.waiting import until

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ask(handler: Handler, *calls: Callable[[Http], Awaitable[bytes]]) -> list[bytes]:
    """What a server that `handler` is answers to the calls, one after another."""

    async def answers() -> list[bytes]:
        async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
            http = Http(server.sockets[0].getsockname()[1], "key")
            try:
                return [await call(http) for call in calls]
            finally:
                http.close()
                await asyncio.sleep(0.05)  # the server's side ends too

    return asyncio.run(answers())


def answering(*parts: bytes, times: int = 1, seen: list[bytes] | None = None) -> Handler:
    """A server that sends these parts for each of `times` requests, then closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            if not (request := await reader.read(1000)):
                break
            (seen if seen is not None else []).append(request)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()

    return handle


def get(http: Http) -> Awaitable[bytes]:
    return http.get("/a")


def post(http: Http) -> Awaitable[bytes]:
    return http.post("/a", {"b": 1})


async def closed(http: Http) -> bytes:
    """Wait until the client has heard that the server closed."""
    await until(lambda: all(connection.closed for connection in http._idle))
    return b""


def test_requests_share_a_connection() -> None:
    seen: list[bytes] = []
    handler = answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok", times=2, seen=seen)
    assert ask(handler, post, post) == [b"ok", b"ok"]
    head = b"POST /a HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer key\r\n"
    body = b'content-type: application/json\r\ncontent-length: 8\r\n\r\n{"b": 1}'
    assert seen == [head + body] * 2


def test_an_answer_may_come_in_pieces() -> None:
    parts = (b"HTTP/1.1 200 OK\r\ncontent-", b"length: 4\r\n\r", b"\nab", b"cd")
    assert ask(answering(*parts), get) == [b"abcd"]


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    handler = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert ask(handler, get, closed, get) == [b"", b"", b""]


def test_another_status_is_an_error() -> None:
    with pytest.raises(Refused, match="503, not 200: no"):
        ask(answering(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno"), get)


def test_no_answer_is_an_error() -> None:
    with pytest.raises(ConnectionError):
        ask(answering(b""), get)
