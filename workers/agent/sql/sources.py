"""Where a query runs: a connection string read, its host checked and pinned, its session made read-only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from common.outbound import OutboundError, OutboundPolicy, Resolver, SystemResolver
from common.outbound.addresses import literal
from common.outbound.urls import Target, check_address
from workers.agent.sql import mysql, postgres, sqlite
from workers.agent.sql.results import Caps, QueryFailed, Rows

_DIALECTS: Final = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
}
_PORTS: Final = {"postgresql": 5432, "mysql": 3306}
_LOOKUP_SECONDS: Final = 5.0


class Blocking(Protocol):
    """Runs a function in a thread (`Attempt.run_blocking`)."""

    def __call__(self, fn: Callable[..., Any], /, *args: Any) -> Awaitable[Any]:
        """The function's result."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A database ready to be asked; `dialect` is postgresql, mysql or sqlite."""

    dialect: str
    ask: Callable[[str, Sequence[Any], Caps], Rows]

    async def query(self, sql: str, parameters: Sequence[Any], caps: Caps, blocking: Blocking) -> Rows:
        """Run one statement in a read-only session of its own; `QueryFailed` says why it could not."""
        result = await blocking(self.ask, sql, list(parameters), caps)
        assert isinstance(result, Rows)
        return result


async def open_source(
    connection: str, policy: OutboundPolicy, folder: Path, resolver: Resolver | None = None
) -> Source:
    """Read a connection string (`postgresql://`, `mysql://`, `mariadb://` or `sqlite:///file`).

    A host must pass the outbound policy and is called at the address that was checked; a SQLite file must lie in
    `folder`. Raises `QueryFailed`.
    """
    url = _url(connection)
    dialect = _DIALECTS.get(url.get_backend_name())
    if dialect is None:
        raise QueryFailed(
            f"{url.get_backend_name()} databases are not supported; use postgresql://, mysql:// or sqlite:///."
        )
    if dialect == "sqlite":
        return Source(dialect, sqlite.asker(_inside(url, folder)))
    address = await _address(url, dialect, policy, resolver or SystemResolver())
    ask = postgres.asker(url, address) if dialect == "postgresql" else mysql.asker(url, address)
    return Source(dialect, ask)


def _url(connection: str) -> URL:
    try:
        return make_url(connection)
    except (ArgumentError, ValueError):
        raise QueryFailed("The datastore's connection string cannot be read.") from None


def _inside(url: URL, folder: Path) -> Path:
    """A relative name lies in the folder; nothing outside it can be named."""
    root = folder.resolve()
    path = (root / (url.database or "")).resolve()
    if not url.database or not path.is_relative_to(root) or not path.is_file():
        raise QueryFailed(
            "A SQLite datastore is a file in the datastores folder of this server; there is no such file."
        )
    return path


async def _address(url: URL, dialect: str, policy: OutboundPolicy, resolver: Resolver) -> str:
    if not url.host or url.host.startswith("/"):
        raise QueryFailed("The datastore's connection string names no host.")
    target = Target(dialect, url.host.lower(), url.port or _PORTS[dialect])
    try:
        if target.address is not None:
            check_address(target.address, target, policy, field="connectionString")
            return str(target.address)
        async with asyncio.timeout(_LOOKUP_SECONDS):
            found = await resolver.resolve(target.host, target.port)
        addresses = [address for text in found if (address := literal(text.partition("%")[0])) is not None]
        for address in addresses:
            check_address(address, target, policy, field="connectionString")
    except OutboundError as refusal:
        raise QueryFailed(refusal.message) from refusal
    except TimeoutError:
        raise QueryFailed(f"{target.host} could not be resolved in time.") from None
    if not addresses:
        raise QueryFailed(f"{target.host} has no address.")
    return str(addresses[0])
