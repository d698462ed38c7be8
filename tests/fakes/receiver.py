"""A webhook receiver: a real server, in the test's process or in one of its own that can be killed.

What it does depends on the path:

    /ok            200
    /status/<n>    that status; ?retry-after=<s> adds the header
    /slow/<s>      200 after so many seconds
    /hang          takes the request, never answers
    /gated         200 once `go_on` is set (of a receiver in the test's process)
    /echo          400, and the headers it got
    /reset         takes the request, resets the connection
    /gone/<n>      410 to the n-th request, 200 to all others
    /flaky/<n>     every n-th event is not accepted at first: by turns 500, 429, a reset, silence, a slow 500

`python -m tests.fakes.receiver PORT LOG` writes a line of JSON for each request, before it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_FAILURES = ("500", "429", "reset", "hang", "slow")


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came. `accepted`: it is answered with 200."""

    at: float
    path: str
    headers: dict[str, str]
    body: str
    accepted: bool

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["webhook-attempt"])

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """Its log, and how many requests it has in hand."""

    port: int = 0
    log: Callable[[Received], None] | None = None
    received: list[Received] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    answers: dict[str, str] = field(default_factory=dict)  # path -> behaviour put in its place
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    _count: int = 0
    _asked: int = 0
    _failed: dict[str, int] = field(default_factory=dict)

    def url(self, path: str = "/ok") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def accepted(self) -> list[Received]:
        return [r for r in self.received if r.accepted]

    def on(self, path: str) -> list[Received]:
        return [r for r in self.received if r.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
        path = first.split(" ")[1]
        what = self._behaviour(self.answers.get(path, path), headers.get("webhook-id", ""))
        got = Received(time.time(), path, headers, body, what.partition("/")[0] in ("ok", "slow", "gated"))
        self.received.append(got)
        if self.log is not None:
            self.log(got)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            return await self._answer(what, headers, writer)
        finally:
            self.busy -= 1

    def _behaviour(self, path: str, event_id: str) -> str:
        kind, _, argument = path.lstrip("/").partition("/")
        if kind == "gone":
            self._asked += 1
            return "status/410" if self._asked == int(argument) else "ok"
        if kind != "flaky":
            return path.lstrip("/")
        if event_id in self._failed:
            return "ok"
        self._count += 1
        if self._count % int(argument):
            return "ok"
        turn = self._failed[event_id] = len(self._failed)
        failure = _FAILURES[turn % len(_FAILURES)]
        return {"500": "status/500", "429": "status/429?retry-after=1", "slow": "late/500"}.get(
            failure, failure
        )

    async def _answer(self, what: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> bool:
        split = urlsplit(what)
        kind, _, argument = split.path.partition("/")
        match kind:
            case "hang":
                await asyncio.sleep(3600)
            case "gated":
                await self.go_on.wait()
                await self._reply(writer, 200)
            case "reset":
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case "slow":
                await asyncio.sleep(float(argument))
                await self._reply(writer, 200)
            case "late":
                await asyncio.sleep(0.3)
                await self._reply(writer, int(argument))
            case "status":
                more = {k: v[0] for k, v in parse_qs(split.query).items()}
                await self._reply(writer, int(argument), more)
            case "echo":
                await self._reply(writer, 400, body=json.dumps(headers))
            case _:
                await self._reply(writer, 200)
        return True

    async def _reply(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        more: dict[str, str] | None = None,
        body: str = "thanks",
    ) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (more or {}).items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        await writer.drain()


@contextlib.asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on loopback while the block runs."""
    receiver = Receiver(port)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await receiver.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the block ended; asyncio logs a cancelled handler as a failure
        finally:
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def read_log(path: Path) -> list[Received]:
    """What a receiver process wrote; a half line of one that was killed is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [Received(**json.loads(line)) for line in lines]


async def _main(port: int, log: Path) -> None:
    with log.open("a", buffering=1) as file:
        receiver = Receiver(port, log=lambda got: print(json.dumps(asdict(got)), file=file))
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2])))
