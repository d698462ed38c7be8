"""What the program of every subject runs: it makes the load that the harness asks for, and reports counts and times.

A command is one JSON line on standard input, {"do": "throughput", "runs": 1000, "connections": 32}; its report is one
JSON line on standard output. Standard library only: it runs in the virtualenv of each peer.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runyard_launch.supervisor import process
from tests.benchmarks.peers import site

ROOT = Path(__file__).parents[3]
CONNECTIONS = 32
WARM_UP_RUNS = 100
#: Seconds that one command may take.
LIMIT = 120
#: Seconds of quiet before each submit at rest.
REST = 0.05


class Peer:
    """A subject: how its processes start, how one run is submitted, how many have not ended."""

    #: Whose versions are reported.
    packages: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.submitted = 0

    async def start(self) -> None:
        """Start the processes; a worker need not be ready."""
        raise NotImplementedError

    async def submit(self, seconds: float) -> None:
        """Return when a run of `seconds` is accepted."""
        raise NotImplementedError

    async def pending(self) -> int:
        """Accepted runs that have not ended; zero where nothing is kept of their end."""
        return 0

    async def close(self) -> None:
        """End the processes."""
        for child in self.processes:
            child.terminate()
        for child in self.processes:
            process.end(child, grace=5)

    async def died(self) -> None:
        """Return when a process has ended that should not."""
        while all(child.poll() is None for child in self.processes):  # noqa: ASYNC110 - ends itself in no event
            await asyncio.sleep(0.5)

    def spawn(self, *arguments: str, **env: str) -> None:
        """Start `python ARGUMENTS…`; it ends with this process, and writes to its log."""
        command = [sys.executable, *arguments]
        self.processes.append(process.spawn(command, env=os.environ | env, cwd=ROOT))


class Http:
    """Keep-alive connections to an api on loopback, as many as are needed at once."""

    def __init__(self, port: int, path: str = "/runs", key: str = "") -> None:
        self._port, self._path, self._key = port, path, key
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, content: object) -> None:
        """POST JSON; anything but 202 is an error."""
        body = json.dumps(content).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        used = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = used
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not answer.startswith(b"http/1.1 202"):
            raise RuntimeError(f"not accepted: {answer.decode()}")
        lengths = [line for line in answer.split(b"\r\n") if line.startswith(b"content-length")]
        await reader.readexactly(int(lengths[0].split(b":")[1]))
        self._idle.append(used)


async def until(condition: Callable[[], Awaitable[bool]], pause: float = 0.05) -> None:
    """Look every `pause` seconds until it is so; a command's own limit ends this."""
    while True:
        if await condition():
            return
        await asyncio.sleep(pause)


async def listening(port: int) -> None:
    """Wait until a port of this machine accepts connections."""

    async def connects() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    await until(connects)


class Load:
    """The measurements of one subject, each of which returns its report."""

    def __init__(self, peer: Peer, marks: str) -> None:
        self._peer = peer
        self._starts: list[float] = []
        self._marked = asyncio.Event()
        os.mkfifo(marks)
        self._pipe = os.open(marks, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    async def prepare(self) -> dict[str, Any]:
        """Start the subject and warm it up."""
        await self._peer.start()
        report = await self.throughput(WARM_UP_RUNS, CONNECTIONS)
        return report | {"versions": {name: version(name) for name in self._peer.packages}}

    async def throughput(self, runs: int, connections: int, seconds: float = 0.0) -> dict[str, Any]:
        """Submit `runs`, `connections` at a time; the time until the last has ended."""
        self._starts.clear()
        left = iter(range(runs))

        async def submit_next() -> None:
            for _ in left:
                await self._submit(seconds)

        began = time.perf_counter()
        await asyncio.gather(*(submit_next() for _ in range(connections)))
        accepted = time.perf_counter() - began
        await self._settle(runs)
        elapsed = time.perf_counter() - began
        return await self._report(runs, len(self._starts), seconds=elapsed, accepted_seconds=accepted)

    async def latency(self, samples: int) -> dict[str, Any]:
        """The seconds from before the submit to the handler's first line, one run at a time."""
        found: list[float] = []
        started = 0
        for _ in range(samples):
            await asyncio.sleep(REST)
            self._starts.clear()
            began = time.time()
            await self._submit()
            await self._settle(1)
            found.append(self._starts[0] - began)
            started += len(self._starts)
        return await self._report(samples, started, seconds=found)

    async def accept(self, rate: float, duration: float) -> dict[str, Any]:
        """The seconds of each submit at a steady rate, which no slow answer lowers."""
        self._starts.clear()
        count = int(rate * duration)
        found: list[float] = []
        first = time.perf_counter()

        async def submit_at(due: float) -> None:
            await asyncio.sleep(due - time.perf_counter())
            began = time.perf_counter()
            await self._submit()
            found.append(time.perf_counter() - began)

        await asyncio.gather(*(submit_at(first + number / rate) for number in range(count)))
        await self._settle(count)
        return await self._report(count, len(self._starts), seconds=found)

    async def _submit(self, seconds: float = 0.0) -> None:
        self._peer.submitted += 1
        await self._peer.submit(seconds)

    async def _settle(self, count: int) -> None:
        """Wait until `count` handlers began and nothing is pending."""
        while len(self._starts) < count:
            self._marked.clear()
            await self._marked.wait()
        await until(self._ended, pause=0.01)

    async def _ended(self) -> bool:
        return not await self._peer.pending()

    async def _report(self, submitted: int, started: int, **times: object) -> dict[str, Any]:
        ended = submitted - await self._peer.pending()
        return {"submitted": submitted, "started": started, "ended": ended, **times}

    def _read(self) -> None:
        self._starts += [began for (began,) in site.MARK.iter_unpack(os.read(self._pipe, 1 << 16))]
        self._marked.set()


def main(peer: Callable[[], Peer], **roles: Callable[[], Awaitable[None]]) -> None:
    """`python -m tests.benchmarks.peers.NAME` obeys the harness; with the name of a role it is that process."""
    if len(sys.argv) > 1:
        asyncio.run(_role(roles[sys.argv[1]]))
        return
    reports = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no report
    asyncio.run(_serve(peer(), reports))


async def _role(role: Callable[[], Awaitable[None]]) -> None:
    await role()


async def _serve(peer: Peer, reports: int) -> None:
    load = Load(peer, os.environ["BENCH_MARKS"])
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            report = await _carried_out(peer, getattr(load, command.pop("do"))(**command))
            os.write(reports, json.dumps(report).encode() + b"\n")
            if "error" in report:
                return
    finally:
        await peer.close()


async def _carried_out(peer: Peer, command: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    carried_out, died = asyncio.create_task(command), asyncio.create_task(peer.died())
    try:
        await asyncio.wait((carried_out, died), timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
        if not carried_out.done():
            return {"error": "a process of the subject ended" if died.done() else f"no end within {LIMIT} s"}
        return carried_out.result()
    except Exception:  # noqa: BLE001 - the harness shows it
        return {"error": traceback.format_exc()}
    finally:
        carried_out.cancel()
        died.cancel()
