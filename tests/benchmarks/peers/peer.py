"""What a subject is to the load. Standard library only: it runs in the virtualenv of each peer."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

from runyard_launch.supervisor import process
from tests.benchmarks.peers import site

ROOT = Path(__file__).parents[3]


class Peer(ABC):
    """A subject: how its processes start, how one run is submitted, how many have not ended."""

    #: Whose versions are reported.
    packages: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.submitted = 0

    @abstractmethod
    async def start(self) -> None:
        """Start the processes; a worker need not be ready."""

    @abstractmethod
    async def submit(self, seconds: float) -> None:
        """Return when a run of `seconds` is accepted."""

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

    def spawn(self, *arguments: str, cwd: Path = ROOT, **env: str) -> None:
        """Start `python ARGUMENTS…`; it ends with this process, and writes to its log."""
        command = [sys.executable, *arguments]
        self.processes.append(process.spawn(command, env=os.environ | env, cwd=cwd))

    def spawn_workers(self, *arguments: str) -> None:
        """Start as many workers as the harness wants; `%n` is the number of each."""
        for number in range(1, site.WORKERS + 1):
            self.spawn(*(argument.replace("%n", str(number)) for argument in arguments))


class ReadablePeer(Peer):
    """A subject that shows one of its runs over HTTP."""

    @abstractmethod
    async def read(self) -> None:
        """Return when the run that was submitted last was shown."""


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
