"""Pages bounded in bytes as well as in rows: what one row may hold times the rows of a page is more than a process has.

The sizes are read first, then only the rows that fit: neither the database's answer nor the page can be larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Integer, Select, case, func, null, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

R = TypeVar("R")
#: What the wide columns of one page may hold together, in bytes.
MOST_BYTES = 8 * 2**20
#: A value of so many bytes is shown even behind the end of the budget (see `trimmed`).
SMALL: Final = 512


class Page(list[R], Generic[R]):
    """Some rows; `more`: it ended early, with rows behind it that were asked for.

    `bytes` is what their wide columns hold together, where that was counted.
    """

    def __init__(self, rows: Iterable[R] = (), more: bool = False, bytes_: int = 0) -> None:
        super().__init__(rows)
        self.more = more
        self.bytes = bytes_


class byte_length(FunctionElement[int]):  # noqa: N801 - it is written like a function of the database
    """The bytes of a text or blob."""

    type = Integer()
    inherit_cache = True


@compiles(byte_length)
def _octets(element: Any, compiler: Any, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


@compiles(byte_length, "sqlite")
def _octets_of_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"


class unindexed(FunctionElement[Any]):  # noqa: N801 - it is written like a function of the database
    """A column that SQLite does not look up in an index: without statistics it takes the first that gives an order,
    where another would find the few rows. PostgreSQL knows better by itself."""

    inherit_cache = True


@compiles(unindexed)
def _as_it_is(element: Any, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(unindexed, "sqlite")
def _without_index(element: Any, compiler: Any, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


def budget(most_bytes: int | None) -> int:
    """What a page may hold where its reader wants no more than `most_bytes`."""
    return MOST_BYTES if most_bytes is None else min(most_bytes, MOST_BYTES)


def bounded(
    conn: Connection, query: Select[Any], key: str, wide: Iterable[str], most_bytes: int | None = None
) -> Page[Any]:
    """The rows of an ordered query, which ends early where the columns `wide` hold more than `most_bytes`
    (by default `MOST_BYTES`) together: behind the first row at the earliest. `key` names its unique column."""
    keys, cut, total = _fitting(conn, query, key, wide, budget(most_bytes))
    chosen = query.limit(None).offset(None).where(query.selected_columns[key].in_(keys))
    return Page(conn.execute(chosen) if keys else (), cut, total)


def bounded_rows(
    conn: Connection,
    query: Select[Any],
    key: str,
    wide: Iterable[str],
    most_bytes: int | None = None,
    *,
    kind: Callable[..., R],
) -> Page[R]:
    """As `bounded`, each row of this kind: a dataclass whose fields are the columns."""
    found = bounded(conn, query, key, wide, most_bytes)
    return Page((kind(**row._mapping) for row in found), found.more, found.bytes)


def trimmed(
    conn: Connection,
    query: Select[Any],
    key: str,
    wide: Iterable[str],
    small: int = SMALL,
    *,
    kind: Callable[..., R],
) -> Page[R]:
    """Every row of an ordered query, for lists that no cursor continues. Behind the budget the columns `wide` are
    None where they hold more than `small` bytes; `more`: some are."""
    wide = tuple(wide)
    keys, cut, total = _fitting(conn, query, key, wide, MOST_BYTES)
    if not cut:
        return Page((kind(**row._mapping) for row in conn.execute(query)), bytes_=total)
    fits = query.selected_columns[key].in_(keys)
    shown = [
        case((or_(fits, byte_length(column) <= small), column), else_=null()).label(column.key)
        if column.key in wide
        else column
        for column in query.selected_columns
    ]
    rows = conn.execute(query.with_only_columns(*shown, maintain_column_froms=True))
    return Page((kind(**row._mapping) for row in rows), True, total)


def _fitting(
    conn: Connection, query: Select[Any], key: str, wide: Iterable[str], most_bytes: int
) -> tuple[list[Any], bool, int]:
    """The keys of the first rows that hold no more than this together, at least one; whether others follow; and what
    they hold."""
    columns = query.selected_columns
    size: Any = sum((func.coalesce(byte_length(columns[name]), 0) for name in wide), start=0)
    sizes = query.with_only_columns(columns[key], size, maintain_column_froms=True)
    keys: list[Any] = []
    total = 0
    for found, bytes_ in conn.execute(sizes):
        if keys and total + bytes_ > most_bytes:
            return keys, True, total
        keys.append(found)
        total += bytes_
    return keys, False, total
