"""Every sealed column of every table, so that what one key sealed can be sealed with another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, LargeBinary, Table, and_, select, tuple_, update

from runyard_common.database.transaction import Store
from runyard_common.tables import metadata

#: Rows looked at in one transaction.
BATCH: Final = 200

Renew = Callable[[bytes], bytes | None]


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


def renew(store: Store, column: Column[Any], change: Renew, broken: type[Exception]) -> Renewed:
    """Put `change` of each value in its place, a batch a transaction, while the installation works on.

    `change` gives None for a value that may stay, and raises `broken` for one it cannot open. A value that
    changes meanwhile is left as it is: its writer sealed it.
    """
    sealed = kept = 0
    lost: list[str] = []
    after: tuple[Any, ...] | None = None
    while batch := _batch(store, column, after):
        with store.begin() as tx:
            for *key, value in batch:
                try:
                    new = change(bytes(value))
                except broken:
                    lost.append("/".join([column.table.name, *map(str, key)]))
                    continue
                if new is None:
                    kept += 1
                    continue
                same = and_(*(c == part for c, part in zip(_key(column), key, strict=True)), column == value)
                tx.conn.execute(update(column.table).where(same).values({column.name: new}))
                sealed += 1
        after = tuple(batch[-1][:-1])
    return Renewed(f"{column.table.name}.{column.name}", sealed, kept, tuple(lost))


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
