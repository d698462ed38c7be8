"""SQL compiled once for all engines of a test process: each test has a database, and so an engine, of its own."""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from runyard_common.database import engine, postgres


def share() -> None:
    """Let every engine that is made from now on use what another has compiled for the same kind of server."""
    for kind in (PGDialect_psycopg, SQLiteDialect_pysqlite):
        # An engine's dialect is part of the cache's key: those that write the same SQL have to be equal.
        kind.__eq__ = _writes_the_same  # type: ignore[assignment]
        kind.__hash__ = _hash  # type: ignore[assignment]
    making = functools.partial(create_engine, execution_options={"compiled_cache": LRUCache(5000)})
    engine.create_engine = postgres.create_engine = making  # type: ignore[attr-defined]


def _writes_the_same(one: DefaultDialect, other: object) -> bool:
    return type(one) is type(other) and _signature(one) == _signature(other)


def _signature(dialect: Any) -> tuple[Any, ...]:
    serializers = dialect._json_serializer, dialect._json_deserializer
    return dialect.server_version_info, dialect.paramstyle, serializers


def _hash(dialect: DefaultDialect) -> int:
    return hash(type(dialect))
