"""Many followers of event streams in one process, which hang up and resume, and check every event they get.

`python -m tests.benchmarks.stream_load` reads its settings as JSON on stdin, prints `ready`, and in the end what
its followers saw, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

_NUMBERED = re.compile(rb"id: (\d+)\n")
_SENT = re.compile(rb'"sent":([0-9.]+)')


@dataclass
class Seen:
    """What all followers of one process saw. `wrong` holds gaps, repeats and refusals."""

    delays: list[float] = field(default_factory=list)
    frames: int = 0
    reconnects: int = 0
    ended: dict[str, list[int]] = field(default_factory=dict)  # task -> last event number of each follower
    wrong: list[str] = field(default_factory=list)


class Follower(asyncio.Protocol):
    """One reader of one task's stream; over all its connections every event comes once, in order."""

    def __init__(self, host: str, port: int, key: str, task_id: str, seen: Seen) -> None:
        self._where = host, port
        self._key = key
        self.task_id = task_id
        self._seen = seen
        self.seq = 0
        self.begun = asyncio.Event()  # its first stream was answered
        self.done = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._headed = False
        self._transport: asyncio.Transport | None = None

    async def connect(self) -> None:
        """Open the stream behind the last event seen."""
        self._rest, self._headed = b"", False
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self, *self._where)
        self._transport = transport
        last = f"Last-Event-ID: {self.seq}\r\n" if self.seq else ""
        transport.write(
            f"GET /tasks/{self.task_id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n"
            f"Accept: text/event-stream\r\n{last}\r\n".encode()
        )

    async def reconnect(self) -> None:
        """Hang up in the middle of a stream, and resume."""
        if self._transport is None or self.done.done():
            return
        self._transport.abort()
        self._transport = None
        self._seen.reconnects += 1
        await self.connect()

    def data_received(self, data: bytes) -> None:
        """Take whole frames; what is not whole yet waits for its rest."""
        if self._transport is None or self.done.done():
            return
        self._rest += data
        if not self._headed and not self._head():
            return
        whole, found, rest = self._rest.rpartition(b"\n\n")
        if found:
            self._rest = rest
            now = time.time()
            for frame in whole.split(b"\n\n"):
                self._frame(frame, now)

    def connection_lost(self, exc: Exception | None) -> None:
        """A stream that breaks off without the client's doing is an error of the server's."""
        if self._transport is not None and not self.done.done():
            self._fail(f"the stream broke off behind {self.seq}: {exc}")

    def _head(self) -> bool:
        head, found, rest = self._rest.partition(b"\r\n\r\n")
        if not found:
            return False
        self._headed, self._rest = True, rest
        self.begun.set()
        if head.startswith(b"HTTP/1.1 204"):
            self._end()
        elif not head.startswith(b"HTTP/1.1 200"):
            self._fail(head[:200].decode("latin-1"))
        return True

    def _frame(self, frame: bytes, now: float) -> None:
        numbered = _NUMBERED.search(frame)
        if numbered is None:
            if b"event: end\n" in frame:
                self._end()
            return
        self._seen.frames += 1
        number = int(numbered[1])
        if number != self.seq + 1:
            self._seen.wrong.append(f"{self.task_id}: {number} came behind {self.seq}")
        self.seq = number
        sent = _SENT.search(frame)
        if sent is not None:
            self._seen.delays.append(now - float(sent[1]))

    def _end(self) -> None:
        if not self.done.done():
            self._seen.ended.setdefault(self.task_id, []).append(self.seq)
            self._close()

    def _fail(self, why: str) -> None:
        self._seen.wrong.append(f"{self.task_id}: {why}")
        self._close()

    def _close(self) -> None:
        self.done.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def follow(
    host: str, port: int, key: str, task_ids: Sequence[str], clients: int, churn: float, patience: float
) -> Seen:
    """Follow these tasks by so many clients, of which a share `churn` reconnects each second, to their ends."""
    seen = Seen()
    followers = [Follower(host, port, key, task_ids[n % len(task_ids)], seen) for n in range(clients)]
    for start in range(0, clients, 50):
        await asyncio.gather(*(follower.connect() for follower in followers[start : start + 50]))
    # That many at once is a load of its own: events are counted once each has its stream.
    await asyncio.wait_for(asyncio.gather(*(follower.begun.wait() for follower in followers)), patience)
    print("ready", flush=True)
    restless = asyncio.create_task(_reconnect(followers, churn))
    _, waiting = await asyncio.wait([follower.done for follower in followers], timeout=patience)
    restless.cancel()
    if waiting:
        seen.wrong.append(f"{len(waiting)} followers never heard of an end")
    return seen


async def _reconnect(followers: Sequence[Follower], churn: float) -> None:
    loop = asyncio.get_running_loop()
    due, began = 0.0, loop.time()
    while True:
        await asyncio.sleep(0.02)
        while due < (loop.time() - began) * churn * len(followers):
            due += 1
            await random.choice(followers).reconnect()


def main() -> None:
    """Follow with the arguments of stdin."""
    print(json.dumps(asdict(asyncio.run(follow(**json.loads(sys.stdin.readline()))))))


if __name__ == "__main__":
    main()
