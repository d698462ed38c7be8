"""How a driver gets to its database server."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import URL

from runyard_common.datastores.rules import DatabaseTls


@dataclass(frozen=True, slots=True)
class Way:
    """`port` is that of the relay on loopback. `own_server` is the identity of the one server that is not asked."""

    url: URL
    tls: DatabaseTls
    port: int
    own_server: str | None = None
