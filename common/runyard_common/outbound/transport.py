"""The guarded transport: every call is checked, resolved once, and connected to checked addresses only.

It opens the connections of an `httpx2` client, so all that a client does above it (redirects,
retries, OAuth discovery) goes through the same check. TLS still verifies the host's own name, and the Host
header still carries it, because only the socket is pinned, not the URL.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final, cast

import httpcore2
import httpx2

from runyard_common.outbound.addresses import literal
from runyard_common.outbound.errors import DnsFailed, HeaderRefused
from runyard_common.outbound.failures import translated
from runyard_common.outbound.own_servers import check_own_servers
from runyard_common.outbound.policy import OutboundPolicy
from runyard_common.outbound.resolver import Resolver, SystemResolver
from runyard_common.outbound.urls import Target, check_address, check_target, target_of

#: Below the 5 s after which common servers close idle connections, so that a call rarely meets a closing one.
KEEPALIVE_SECONDS: Final = 4.0
#: At most this many of a host's addresses are tried.
MAX_ADDRESSES: Final = 4
#: Longer than the api accepts for stored URLs: clients may add a query.
MAX_URL_LENGTH: Final = 8192

#: The host of the call under way in this context, and where it may be connected to.
_pinned: ContextVar[tuple[str, tuple[str, ...]] | None] = ContextVar("pinned", default=None)


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Opens sockets to the checked addresses of the call under way, and to nothing else."""

    def __init__(self, inner: httpcore2.AsyncNetworkBackend | None = None) -> None:
        self._inner = inner or httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Try the addresses in turn, each with its share of `timeout` seconds."""
        pinned = _pinned.get()
        if pinned is None or pinned[0] != host:
            raise httpcore2.ConnectError(f"{host} was not checked.")
        deadline = None if timeout is None else time.monotonic() + timeout
        addresses = pinned[1]
        for left in range(len(addresses), 0, -1):
            share = None if deadline is None else max(0.0, deadline - time.monotonic()) / left
            try:
                return await self._inner.connect_tcp(
                    addresses[-left], port, share, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if left == 1:
                    raise
        raise httpcore2.ConnectError(f"{host} has no address.")

    async def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        """Refused."""
        raise httpcore2.ConnectError("Unix sockets are not called.")

    async def sleep(self, seconds: float) -> None:
        """As the library's own."""
        await self._inner.sleep(seconds)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """An `httpx2` transport that calls public addresses only, save for what the policy opens.

    Raises the exceptions of `runyard_common.outbound.errors`. One per process and event loop: it pools connections.
    `resolver`, `tls` (default: the system's trusted certificates) and `backend` (opens sockets) are seams.
    """

    def __init__(
        self,
        policy: OutboundPolicy,
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        max_connections: int = 1000,
    ) -> None:
        self._policy = policy
        self._resolver = resolver or SystemResolver()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or _system_trust(),
            max_connections=max_connections,
            max_keepalive_connections=100,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=PinnedBackend(backend),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One call: check, resolve, check what was resolved, send; an `OutboundError` for every failure."""
        target = target_of(str(request.url), max_length=MAX_URL_LENGTH)
        check_target(target, self._policy)
        _check_host_header(request)
        timeouts = request.extensions.get("timeout", {})
        addresses = await self._addresses(target, timeouts.get("connect"))
        pin = _pinned.set((request.url.raw_host.decode("ascii"), addresses))
        try:
            with translated():
                response = await self._pool.handle_async_request(_core_request(request, timeouts))
        finally:
            _pinned.reset(pin)
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_BodyStream(response, addresses),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def _addresses(self, target: Target, seconds: float | None) -> tuple[str, ...]:
        """What to connect to. One refused address among several refuses the call: so rebinding begins."""
        own, resolver = self._policy.own, self._resolver
        if target.address is not None:
            await check_own_servers(own, [target.address], target.host, target.port, resolver)
            return (str(target.address),)
        try:
            async with asyncio.timeout(seconds):
                answers = await self._resolver.resolve(target.host, target.port)
        except TimeoutError:
            raise DnsFailed(f"{target.host} could not be resolved in time.") from None
        addresses = [address for text in answers if (address := literal(text.partition("%")[0])) is not None]
        if not addresses:
            raise DnsFailed(f"{target.host} has no address.")
        for address in addresses:
            check_address(address, target, self._policy)
        await check_own_servers(own, addresses, target.host, target.port, resolver)
        return tuple(str(address) for address in addresses[:MAX_ADDRESSES])


def guarded_transport(
    policy: OutboundPolicy, *, resolver: Resolver | None = None, tls: ssl.SSLContext | None = None
) -> httpx2.AsyncBaseTransport:
    """A transport for one `httpx2.AsyncClient`, which closes it; `GuardedClient.http_client` shares one."""
    return GuardedTransport(policy, resolver=resolver, tls=tls)


class SharedTransport(httpx2.AsyncBaseTransport):
    """A transport lent to a client: closing the client leaves the connections to the others."""

    def __init__(self, lent: httpx2.AsyncBaseTransport) -> None:
        self._lent = lent

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass the call on."""
        return await self._lent.handle_async_request(request)


class _BodyStream(httpx2.AsyncByteStream):
    """The answer's body, failures named. A connection to an address the name no longer has is not kept."""

    def __init__(self, response: httpcore2.Response, addresses: tuple[str, ...]) -> None:
        self._response = response
        self._stale = peer(response.extensions) not in addresses

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = cast(AsyncGenerator[bytes], aiter(cast(AsyncIterable[bytes], self._response.stream)))
        with translated():
            async with aclosing(parts):
                async for part in parts:
                    yield part

    async def aclose(self) -> None:
        if self._stale:  # before it goes back to the pool, which drops it then
            await self._response.extensions["network_stream"].aclose()
        await self._response.aclose()


def peer(extensions: Mapping[str, Any]) -> str:
    """The address a response came from, as text."""
    stream: httpcore2.AsyncNetworkStream = extensions["network_stream"]
    address = stream.get_extra_info("server_addr")
    return str(address[0]) if address else ""


def _check_host_header(request: httpx2.Request) -> None:
    """Another host's name in the header would reach a virtual host the URL does not name."""
    if request.headers.get("host", "").lower() != request.url.netloc.decode("ascii").lower():
        raise HeaderRefused("The Host header must be the URL's own host; leave it out.", reason="reserved")


def _core_request(request: httpx2.Request, timeouts: Mapping[str, float | None]) -> httpcore2.Request:
    """Only the timeouts pass from the request's extensions: another server name for TLS must not."""
    assert isinstance(request.stream, httpx2.AsyncByteStream)
    url = request.url
    return httpcore2.Request(
        method=request.method,
        url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions={"timeout": dict(timeouts)},
    )


@functools.cache
def _system_trust() -> ssl.SSLContext:
    """Loading the trusted certificates takes a tenth of a second: once per process."""
    return httpx2.create_ssl_context()
