"""Every sealed column of every table, so that what one key sealed can be sealed with another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, LargeBinary, Table, and_, select, tuple_, update

from runyard_common.database.transaction import Store
from runyard_common.tables import metadata

#: Rows looked at in one transaction.
BATCH: Final = 200

Renew = Callable[[bytes], bytes | None]
Progress = Callable[["Renewed"], None]


@dataclass(frozen=True, slots=True)
class Renewed:
    """What became of one column's values. `broken` names rows whose value no key opens, `table/primary key`."""

    column: str  # table.column
    sealed: int = 0  # sealed again, with the first key
    kept: int = 0  # sealed with the present key already
    broken: tuple[str, ...] = ()


def columns() -> list[Column[Any]]:
    """The columns that may hold sealed values: all that hold bytes."""
    return [
        column
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    ]


def renew(
    store: Store,
    column: Column[Any],
    change: Renew,
    broken: type[Exception],
    progress: Progress | None = None,
) -> Renewed:
    """Put `change` of each value in its place, a batch a transaction, while the installation works on.

    `change` gives None for a value that may stay, and raises `broken` for one it cannot open. A value that
    changes meanwhile is left as it is: its writer sealed it. `progress` gets the count after each batch.
    """
    done = Renewed(f"{column.table.name}.{column.name}")
    for batch in _batches(store, column):
        judged = _judge(column, batch, change, broken)
        if judged.changes:
            with store.begin() as tx:
                for same, new in judged.changes:
                    tx.conn.execute(update(column.table).where(same).values({column.name: new}))
        done = judged.added_to(done)
        if progress is not None:
            progress(done)
    return done


def look(
    store: Store, column: Column[Any], change: Renew, broken: type[Exception], batches: int | None = None
) -> Renewed:
    """What `renew` would do, and does not; of the first `batches` alone where that is given."""
    done = Renewed(f"{column.table.name}.{column.name}")
    for batch in islice(_batches(store, column), batches):
        done = _judge(column, batch, change, broken).added_to(done)
    return done


@dataclass(frozen=True, slots=True)
class _Judged:
    """A batch's changes: the row while it has the value that was read, and its new value."""

    changes: list[tuple[ColumnElement[bool], bytes]]
    kept: int
    broken: list[str]

    def added_to(self, done: Renewed) -> Renewed:
        return Renewed(
            done.column,
            done.sealed + len(self.changes),
            done.kept + self.kept,
            (*done.broken, *self.broken),
        )


def _judge(column: Column[Any], batch: list[Any], change: Renew, broken: type[Exception]) -> _Judged:
    judged = _Judged([], 0, [])
    kept = 0
    for *key, value in batch:
        try:
            new = change(bytes(value))
        except broken:
            judged.broken.append("/".join([column.table.name, *map(str, key)]))
            continue
        if new is None:
            kept += 1
            continue
        same = and_(*(c == part for c, part in zip(_key(column), key, strict=True)), column == value)
        judged.changes.append((same, new))
    return replace(judged, kept=kept)


def _batches(store: Store, column: Column[Any]) -> Iterator[list[Any]]:
    after: tuple[Any, ...] | None = None
    while batch := _batch(store, column, after):
        yield batch
        after = tuple(batch[-1][:-1])


def _batch(store: Store, column: Column[Any], after: tuple[Any, ...] | None) -> list[Any]:
    key = _key(column)
    query = select(*key, column).where(column.is_not(None)).order_by(*key).limit(BATCH)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    with store.read() as conn:
        return [tuple(row) for row in conn.execute(query)]


def _key(column: Column[Any]) -> list[Column[Any]]:
    table = column.table
    assert isinstance(table, Table)
    return list(table.primary_key.columns)
