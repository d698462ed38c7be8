"""Real TCP servers whose answers are written by hand: slow, huge, broken, redirecting, encrypted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

Behaviour = Callable[["Call"], Awaitable[None]]


@dataclass(slots=True)
class Call:
    """One request as it came, and the way back."""

    head: str
    body: bytes
    writer: asyncio.StreamWriter

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def reply(self, status: str = "200 OK", body: bytes = b"", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with a TCP reset instead of an orderly end."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass(slots=True)
class RawServer:
    """What a server saw. `connections` counts accepted sockets, with or without a request on them."""

    host: str
    port: int = 0
    connections: int = 0
    open: int = 0
    calls: list[Call] = field(default_factory=list)
    broken_off: asyncio.Event = field(default_factory=asyncio.Event)  # a client left before its answer's end

    def url(self, name: str | None = None, scheme: str = "http", path: str = "/hook") -> str:
        host = name or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{scheme}://{host}:{self.port}{path}"


async def answer_ok(call: Call) -> None:
    """Answer 200 with a short body."""
    await call.reply(body=b"thank you")


@contextlib.asynccontextmanager
async def serving(
    behaviour: Behaviour = answer_ok,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawServer]:
    """A server on `host` while the block runs; port 0 takes a free one."""
    seen = RawServer(host)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        seen.connections += 1
        seen.open += 1
        try:
            while True:
                call = await _read_call(reader, writer)
                seen.calls.append(call)
                await behaviour(call)
        except asyncio.IncompleteReadError:
            pass  # the client is done
        except (
            ConnectionError,
            RuntimeError,
        ):  # uvloop's word for writing to a closed transport is RuntimeError
            seen.broken_off.set()
        except asyncio.CancelledError:
            pass  # the block ended; asyncio logs a cancelled handler as a failure
        finally:
            seen.open -= 1
            running.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@contextlib.contextmanager
def never_accepting(host: str = "127.0.0.1") -> Iterator[int]:
    """The port of a listener whose queue is full: further handshakes get no answer."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind((host, 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(address)
        yield address[1]


async def _read_call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip()
    call = Call(head, b"", writer)
    call.body = await reader.readexactly(int(call.headers.get("content-length", "0")))
    return call
