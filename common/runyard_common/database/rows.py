"""Rows as frozen dataclasses whose fields are named as the columns are, and the organisation that a read is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, bindparam

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class OrgScope:
    """A snapshot or transaction as one organisation sees it.

    Queries that answer callers of the api take one in place of a connection: a handler has no other way to read
    (`Call.read`), so it cannot reach another organisation's rows by leaving a condition out.
    """

    conn: Connection
    org_id: str


def columns(kind: Callable[..., Any], table: Any) -> list[Any]:
    """The columns of a table that are the fields of a dataclass."""
    return [table.__table__.c[field.name] for field in fields(kind)]  # type: ignore[arg-type]


def first(conn: Connection, query: Any, kind: Callable[..., R]) -> R | None:
    """The first row of a query."""
    row = conn.execute(query).first()
    return None if row is None else kind(**row._mapping)


def every(conn: Connection, query: Any, kind: Callable[..., R]) -> list[R]:
    """The rows of a query."""
    return [kind(**row._mapping) for row in conn.execute(query)]


def values(row: Any) -> dict[str, Any]:
    """The columns of a row that is to be inserted."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


def insert_of(table: Any, names: Iterable[str]) -> Any:
    """An INSERT of these columns, by parameters of their names."""
    return sqlalchemy.insert(table).values({name: bindparam(name) for name in names})


def insert(postgres: bool, table: Any) -> Any:
    """An INSERT of the database's own dialect, which alone has ON CONFLICT. The other dialect stays unloaded."""
    if postgres:
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)
