"""A name system a test writes itself, and sockets that may not be opened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore2

from runyard_common.outbound.errors import DnsFailed


class Names:
    """A resolver whose answers change from one lookup to the next; the last one stays."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = {
            name.replace("_", "."): [each.split() for each in given] for name, given in answers.items()
        }
        self.asked: list[str] = []
        self.delay = 0.0

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        await asyncio.sleep(self.delay)
        answers = self.answers.get(host)
        if not answers:
            raise DnsFailed(f"{host} could not be resolved: no such name.")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class NoSockets(httpcore2.AsyncNetworkBackend):
    """Records the calls instead of making them: a broken guard must not reach anything real."""

    def __init__(self) -> None:
        self.dialled: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.dialled.append(host)
        raise httpcore2.ConnectError("no sockets here")

    async def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        self.dialled.append(str(args))
        raise httpcore2.ConnectError("no sockets here")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
