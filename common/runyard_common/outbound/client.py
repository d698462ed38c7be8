"""The client for URLs a caller chose: guarded, bounded in time and bytes, following no redirect."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, cast

import httpcore2
import httpx2

from runyard_common.outbound.bounded import BoundedTransport
from runyard_common.outbound.errors import AttemptTimedOut, OutboundError
from runyard_common.outbound.policy import OutboundPolicy
from runyard_common.outbound.resolver import Resolver
from runyard_common.outbound.transport import MAX_URL_LENGTH, GuardedTransport, SharedTransport, peer
from runyard_common.outbound.urls import check_url

USER_AGENT: Final = "Runyard"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `read` is between two pieces of the answer; `total` is the whole call, lookup included."""

    connect: float = 5.0
    read: float = 15.0
    total: float = 15.0

    def extension(self) -> dict[str, float]:
        """In the form `httpx2` hands to its transports."""
        return {"connect": self.connect, "read": self.read, "write": self.read, "pool": self.total}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered. `body` holds the first bytes, all of them unless `truncated`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    elapsed: float  # seconds from the lookup to the last byte read
    address: str  # the address that answered


class GuardedClient:
    """One per process: callers share its connections and nothing else (no cookies, no credentials).

    Every failure is an `OutboundError` with a stable `code`. Any status is an `Answer`.
    """

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        timeouts: Timeouts | None = None,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        max_connections: int = 1000,
        max_answer_bytes: int = 16 * 2**20,
    ) -> None:
        """`max_answer_bytes` bounds the answers of `http_client`."""
        self._policy = policy
        self.max_answer_bytes = max_answer_bytes
        self._timeouts = timeouts or Timeouts()
        self._transport = GuardedTransport(
            policy, resolver=resolver, tls=tls, backend=backend, max_connections=max_connections
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        keep: int = 65_536,
        timeouts: Timeouts | None = None,
    ) -> Answer:
        """Send a request and read at most `keep` bytes of the answer's body, as they came."""
        bounds = timeouts or self._timeouts
        started = time.monotonic()
        check_url(url, self._policy, max_length=MAX_URL_LENGTH)
        request = _request(method, url, headers, content, bounds)
        async with _deadline(bounds, started):
            response = await self._transport.handle_async_request(request)
        body = bytearray()
        address = peer(response.extensions)
        try:
            async with _deadline(bounds, started):
                truncated = await _read(response, keep, body)
        except OutboundError:
            truncated = True  # the status has come, which is the receiver's answer
        finally:
            await response.aclose()
        elapsed = time.monotonic() - started
        return Answer(response.status_code, response.headers, bytes(body), truncated, elapsed, address)

    def http_client(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        read: float = 300.0,
        seconds: float | None = None,
        wrap: Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport] | None = None,
    ) -> httpx2.AsyncClient:
        """An `httpx2` client on the shared connections, for libraries that bring their own protocol (MCP).

        It follows no redirects, reads no proxy settings and has cookies of its own; closing it closes nothing
        shared. An answer is counted and over within `seconds`, see `BoundedTransport`. `wrap` may put another
        transport around the guarded one.
        """
        guarded = BoundedTransport(SharedTransport(self._transport), self.max_answer_bytes, seconds)
        return httpx2.AsyncClient(
            transport=guarded if wrap is None else wrap(guarded),
            headers=dict(headers or {}),
            timeout=httpx2.Timeout(timeout, read=read),
            follow_redirects=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


@asynccontextmanager
async def _deadline(bounds: Timeouts, started: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(max(0.0, started + bounds.total - time.monotonic())):
            yield
    except TimeoutError:
        raise AttemptTimedOut(f"The call took longer than {bounds.total:g} s in all.") from None


def _request(
    method: str, url: str, headers: Mapping[str, str] | None, content: bytes, bounds: Timeouts
) -> httpx2.Request:
    """Unpacked answers are asked for: a small packed one may hold gigabytes."""
    ours = {"user-agent": USER_AGENT, "accept": "*/*"}
    given = {name.lower(): value for name, value in (headers or {}).items()}
    merged = ours | given | {"accept-encoding": "identity"}
    return httpx2.Request(
        method, url, headers=merged, content=content or None, extensions={"timeout": bounds.extension()}
    )


async def _read(response: httpx2.Response, limit: int, body: bytearray) -> bool:
    """Add at most `limit` bytes to `body`; whether there were more."""
    parts = cast(AsyncGenerator[bytes], aiter(cast(httpx2.AsyncByteStream, response.stream)))
    async with aclosing(parts):  # left half read, it must be closed before the connection goes back
        async for part in parts:
            left = limit - len(body)
            body += part[:left]
            if len(part) > left:
                return True
    return False
