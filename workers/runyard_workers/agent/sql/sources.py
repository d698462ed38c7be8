"""Where a query runs: a connection string read, its host checked and pinned, its session made read-only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from runyard import extras
from runyard_common.datastores.rules import DatabaseTls, tls_of
from runyard_common.outbound import OutboundError, OutboundPolicy, Resolver, SystemResolver
from runyard_common.outbound.addresses import literal
from runyard_common.outbound.errors import UrlRefused
from runyard_common.outbound.own_servers import check_own_servers
from runyard_common.outbound.urls import Target, check_address
from runyard_workers.agent.sql import sqlite
from runyard_workers.agent.sql.relay import Relay, Way
from runyard_workers.agent.sql.results import UNREACHABLE, Caps, QueryFailed, Rows

_DIALECTS: Final = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
}
#: The driver of a dialect, the extra that brings it, and the module here that asks with it.
_DRIVERS: Final = {
    "postgresql": ("psycopg", "postgres", "runyard_workers.agent.sql.postgres"),
    "mysql": ("pymysql", "mysql", "runyard_workers.agent.sql.mysql"),
}
_PORTS: Final = {"postgresql": 5432, "mysql": 3306}
_LOOKUP_SECONDS: Final = 5.0
#: Queries of one organisation's SQLite files at once, in one worker: each is a process that may burn a core.
_FILE_QUERIES: Final = 2
_TURNS: WeakValueDictionary[Path, asyncio.Semaphore] = WeakValueDictionary()
#: At most this many of a host's addresses are tried.
_MOST_ADDRESSES: Final = 4


class Blocking(Protocol):
    """Runs a function in a thread (`Attempt.run_blocking`)."""

    def __call__(self, fn: Callable[..., Any], /, *args: Any) -> Awaitable[Any]:
        """The function's result."""
        ...


class Source(Protocol):
    """A database ready to be asked; `dialect` is postgresql, mysql or sqlite."""

    @property
    def dialect(self) -> str:
        """Which family of databases it is of."""
        ...

    async def query(self, sql: str, parameters: Sequence[Any], caps: Caps, blocking: Blocking) -> Rows:
        """Run one statement in a read-only session of its own; `QueryFailed` where it cannot."""
        ...


@dataclass(frozen=True, slots=True)
class ServerSource:
    """A database server, called at addresses that are checked for each query."""

    dialect: str
    url: URL
    tls: DatabaseTls
    policy: OutboundPolicy
    resolver: Resolver
    own_server: str | None = None

    async def query(self, sql: str, parameters: Sequence[Any], caps: Caps, blocking: Blocking) -> Rows:
        port = self.url.port or _PORTS[self.dialect]
        addresses = await self._addresses(port)
        async with Relay(addresses, port, caps.bytes, caps.seconds) as relay:
            way = Way(self.url, self.tls, relay.port, self.own_server)
            try:
                result = await blocking(_ask_server, self.dialect, way, sql, list(parameters), caps)
            except QueryFailed as failure:
                # What the driver makes of a connection that was broken off is not the reason.
                raise (QueryFailed(relay.failure) if relay.failure else failure) from failure
        assert isinstance(result, Rows)
        return result

    async def _addresses(self, port: int) -> list[str]:
        if not self.url.host or self.url.host.startswith("/"):
            raise QueryFailed("The datastore's connection string names no host.")
        target = Target(self.dialect, self.url.host.lower(), port)
        try:
            async with asyncio.timeout(_LOOKUP_SECONDS):
                return await self._checked(target)
        except UrlRefused as refusal:
            raise QueryFailed(refusal.message) from refusal
        except (OutboundError, TimeoutError) as failure:
            raise QueryFailed(UNREACHABLE) from failure

    async def _checked(self, target: Target) -> list[str]:
        found = [target.host] if target.address else await self.resolver.resolve(target.host, target.port)
        addresses = [address for text in found if (address := literal(text.partition("%")[0])) is not None]
        for address in addresses:
            check_address(address, target, self.policy, field="connectionString")
        own, field = self.policy.own, "connectionString"
        await check_own_servers(own, addresses, target.host, target.port, self.resolver, field)
        if not addresses:
            raise QueryFailed(UNREACHABLE)
        return [str(address) for address in addresses[:_MOST_ADDRESSES]]


def _ask_server(dialect: str, way: Way, sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    """In a thread, as the driver is imported at the first query."""
    driver, extra, module = _DRIVERS[dialect]
    if not extras.installed(driver):
        raise QueryFailed(extras.advice(f"A {dialect} datastore", extra))
    result = import_module(module).ask(way, sql, parameters, caps)
    assert isinstance(result, Rows)
    return result


@dataclass(frozen=True, slots=True)
class FileSource:
    """A SQLite file."""

    path: Path
    dialect: str = "sqlite"

    async def query(self, sql: str, parameters: Sequence[Any], caps: Caps, blocking: Blocking) -> Rows:
        async with _turns(self.path.parent):
            result = await blocking(sqlite.ask, self.path, sql, list(parameters), caps)
        assert isinstance(result, Rows)
        return result


def _turns(folder: Path) -> asyncio.Semaphore:
    """Where the queries of one organisation, whose folder this is, wait for each other."""
    found = _TURNS.get(folder)
    if found is None:
        found = _TURNS[folder] = asyncio.Semaphore(_FILE_QUERIES)
    return found


def open_source(
    connection: str,
    policy: OutboundPolicy,
    folder: Path,
    own_server: str | None = None,
    resolver: Resolver | None = None,
) -> Source:
    """Read a connection string (`postgresql://`, `mysql://`, `mariadb://` or `sqlite:///file`).

    A host must pass the outbound policy at each query and is called at the addresses that were checked; a SQLite file
    must lie in `folder`, its organisation's own. `own_server` is the identity of the PostgreSQL server that may not be
    asked, see `runyard_common.datastores.queries.server_identity`. Raises `QueryFailed`.
    """
    url = _url(connection)
    dialect = _DIALECTS.get(url.get_backend_name())
    if dialect is None:
        raise QueryFailed(
            f"{url.get_backend_name()} databases are not supported; use postgresql://, mysql:// or sqlite:///."
        )
    if dialect == "sqlite":
        return FileSource(_inside(url, folder, policy))
    try:
        tls = tls_of({name: str(value) for name, value in url.query.items()})
    except ValueError as error:
        raise QueryFailed(f"The datastore's connection string is not understood: {error}.") from None
    return ServerSource(dialect, url, tls, policy, resolver or SystemResolver(), own_server)


def _url(connection: str) -> URL:
    try:
        return make_url(connection)
    except (ArgumentError, ValueError):
        raise QueryFailed("The datastore's connection string cannot be read.") from None


def _inside(url: URL, folder: Path, policy: OutboundPolicy) -> Path:
    """A relative name lies in the folder; nothing outside it can be named.

    One sentence for every name that is refused: it must not show what other organisations have.
    """
    root = folder.resolve()
    path = (root / (url.database or "")).resolve()
    if not url.database or not path.is_relative_to(root) or not path.is_file() or policy.owns_file(path):
        raise QueryFailed(
            f"There is no such file. A SQLite datastore is a file in datastores/{folder.name}/ of the server's home; "
            "one that lies in datastores/ itself belongs to no organisation until the operator moves it there."
        )
    return path
