"""The installation's own database, broker and Redis: no caller's call may reach them, in opened networks too.

They are compared as the machine sees them when it connects: every address of either name, IPv4 inside IPv6 taken out,
and all addresses of this machine as one. Names alone prove nothing: a caller may make a name for any address.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from runyard_common.outbound.addresses import Address, Kind, embedded_ipv4, kind_of, literal
from runyard_common.settings import Settings
from runyard_common.values import broker_urls, primaries
from runyard_common.values.errors import ConfigurationError

if TYPE_CHECKING:  # it brings the HTTP library, and the policy is read by processes that call no URL
    from runyard_common.outbound.errors import UrlRefused
    from runyard_common.outbound.resolver import Resolver

_PORTS: Final = {
    "postgresql": 5432, "redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671,
    **dict.fromkeys(broker_urls.SENTINEL, broker_urls.SENTINEL_PORT),
}  # fmt: skip
_ALIASES: Final = {**broker_urls.ALIASES, "postgres": "postgresql"}
_HERE: Final = "localhost"
_LOOKUP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """One of them: a host (`localhost` for a Unix socket) and its port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class OwnServers:
    """Those that the settings name. Read each time: the embedded broker may have moved to another port."""

    settings: Settings

    def at(self, port: int) -> list[Server]:
        """Those that listen on this port."""
        return [server for server in self._all() if server.port == port]

    def is_file(self, path: Path) -> bool:
        """Whether `path` is the file of the installation's own SQLite database, under any name."""
        url = self.settings.database
        if not url.startswith("sqlite"):
            return False
        own = Path(urlsplit(url).path.removeprefix("/"))
        with suppress(OSError):
            return path.samefile(own)
        return False

    def _all(self) -> Iterator[Server]:
        urls = [self.settings.database]
        for name in ("broker", "redis"):
            with suppress(ConfigurationError):  # the embedded one is not running
                urls.append(getattr(self.settings, name))
        for url in urls:
            yield from _servers(url)
        yield from (Server(host, port) for host, port in primaries.seen())


def check_own_literal(own: OwnServers, host: str, port: int, field: str) -> None:
    """Refuse a host that is one of them by its text; what it resolves to is compared when it is called."""
    address = literal(host)
    for server in own.at(port):
        theirs = literal(server.host)
        if host == server.host or (address and theirs and _same_machine(address, [theirs])):
            raise refusal(host, port, field)


async def check_own_servers(
    own: OwnServers | None,
    addresses: Sequence[Address],
    host: str,
    port: int,
    resolver: Resolver,
    field: str = "url",
) -> None:
    """Refuse a call to `addresses` at `port` that would reach one of them. `host` is what the caller named.

    Raises `UrlRefused` with the reason own_server, also when one of them listens there and cannot be looked up.
    """
    for server in own.at(port) if own is not None else ():
        theirs = await _addresses(server, resolver)
        if not theirs or any(_same_machine(address, theirs) for address in addresses):
            raise refusal(host, port, field)


def refusal(host: str, port: int, field: str) -> UrlRefused:
    """The refusal of a call that would reach one of them."""
    from runyard_common.outbound.errors import UrlRefused

    return UrlRefused(
        f"{host} at port {port} is a server of this installation itself (its database, broker or Redis), which "
        "nothing else may reach. Use another server.",
        reason="own_server",
        field=field,
    )


def _servers(url: str) -> Iterator[Server]:
    """The hosts of a URL. libpq's parameters may name others than the URL's own, several each."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.partition("+")[0]
    scheme = _ALIASES.get(scheme, scheme)
    if scheme == "unix":
        yield Server(_HERE, _PORTS["redis"])
    if scheme not in _PORTS:
        return
    standard = _PORTS[scheme]
    authority, _, tail = rest.partition("/")
    given = parse_qsl(tail.partition("?")[2])
    hosts = authority.rpartition("@")[2]
    if scheme == "postgresql":
        ports = [port for name, value in given if name == "port" for port in value.split(",")]
        named = [
            value for name, values in given if name in ("host", "hostaddr") for value in values.split(",")
        ]
        for index, one in enumerate(named):
            fallback = int(ports[min(index, len(ports) - 1)]) if ports else standard
            yield from _server(one, fallback)
        if not hosts and not named:
            hosts = os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST") or _HERE
            standard = int(os.environ.get("PGPORT") or standard)
    for one in hosts.split(","):
        if one or not given:
            yield from _server(one or _HERE, standard)


def _server(text: str, port: int) -> Iterator[Server]:
    text = unquote(text)
    if text.startswith(("/", "@")):  # a Unix socket: its server listens on this machine, if anywhere else
        yield Server(_HERE, port)
        return
    if literal(text.strip("[]")):
        yield Server(text.strip("[]"), port)
        return
    host, _, own_port = text.rpartition(":") if ":" in text else (text, "", "")
    yield Server(host.strip("[]").lower(), int(own_port) if own_port.isdigit() else port)


async def _addresses(server: Server, resolver: Resolver) -> list[Address]:
    if (address := literal(server.host)) is not None:
        return [address]
    from runyard_common.outbound.errors import DnsFailed

    try:
        async with asyncio.timeout(_LOOKUP_SECONDS):
            found = await resolver.resolve(server.host, server.port)
    except (DnsFailed, TimeoutError):
        found = ["127.0.0.1", "::1"] if server.host == _HERE else []
    return [address for text in found if (address := literal(text.partition("%")[0])) is not None]


def _same_machine(address: Address, theirs: Sequence[Address]) -> bool:
    plain, others = _plain(address), [_plain(one) for one in theirs]
    return plain in others or (_is_here(plain) and any(map(_is_here, others)))


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries, or the address itself."""
    if kind_of(address) is Kind.EMBEDDED_IPV4:
        return embedded_ipv4(address) or address
    return address


def _is_here(address: Address) -> bool:
    """Whether this machine has the address: the system lets a socket be bound to no other."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)
    return True
