"""The key that seals stored secrets can be replaced: everything is resealed, and the old key can go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, String, insert, select, update

from runyard_common.credentials.queries import sealed
from runyard_common.credentials.rules.sealing import SealBroken, Sealer, new_key
from runyard_common.credentials.service import reseal
from runyard_common.database.transaction import Store
from runyard_common.values.ids import uuid7
from tests import databases

OLD, NEW, STRANGE = new_key(), new_key(), new_key()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    db = databases.opened(database_url)
    yield Store(db)
    db.close()


def _row(column: Column[Any], value: bytes) -> dict[str, Any]:
    """A row of the column's table that holds the value, and in its other columns what they need."""
    row: dict[str, Any] = {}
    for other in column.table.columns:
        if other.nullable or other.default is not None or other.server_default is not None:
            continue
        kinds = {
            String: uuid7()[-_length(other.type) :],
            Boolean: False,
            Integer: 0,
            Float: 0.0,
            LargeBinary: value,
        }
        row[other.name] = next((plain for kind, plain in kinds.items() if isinstance(other.type, kind)), {})
    return row | {column.name: value}


def _length(kind: Any) -> int:
    return min(36, getattr(kind, "length", None) or 36)


def _put(store: Store, column: Column[Any], value: bytes) -> None:
    with store.begin() as tx:
        tx.conn.execute(insert(column.table).values(_row(column, value)))


def _values(store: Store, column: Column[Any]) -> list[bytes]:
    with store.read() as conn:
        return [bytes(value) for value in conn.execute(select(column).where(column.is_not(None))).scalars()]


def test_every_column_that_holds_secrets_is_resealed_and_the_old_key_can_go(store: Store) -> None:
    columns = sealed.columns()
    assert {column.table.name for column in columns} >= {
        "agent_versions", "callbacks", "datastores", "endpoints", "schedules", "tasks",
    }  # fmt: skip
    before, both = Sealer(OLD), Sealer(f"{NEW},{OLD}")
    for number, column in enumerate(columns):
        _put(store, column, before.seal({"secret": number}))
        _put(store, column, both.seal({"secret": -number}))
        _put(store, column, b'{"no": "secret"}')
    with store.begin() as tx:
        tx.conn.execute(update(columns[0].table).values({columns[0].name: before.seal({"secret": 0})}))
    done = {renewed.column: renewed for renewed in reseal(store, both)}
    for number, column in enumerate(columns[1:], 1):
        renewed = done[f"{column.table.name}.{column.name}"]
        assert (renewed.sealed, renewed.broken) == (1, ()), renewed
        opened = [Sealer(NEW).open(v) for v in _values(store, column) if v.startswith(b"gAAAA")]
        assert sorted(value["secret"] for value in opened) == [-number, number]
    assert done[f"{columns[0].table.name}.{columns[0].name}"].sealed == 3
    assert sum(renewed.sealed for renewed in reseal(store, both)) == 0, "a second time finds nothing to do"


def test_more_rows_than_a_batch_are_all_resealed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "BATCH", 3)
    for column in sealed.columns():
        for _ in range(7):
            _put(store, column, Sealer(OLD).seal("x"))
    done = list(reseal(store, Sealer(f"{NEW},{OLD}")))
    assert [renewed.sealed for renewed in done] == [7] * len(done)


def test_what_no_key_opens_is_named_and_stays(store: Store) -> None:
    column = next(column for column in sealed.columns() if column.table.name == "endpoints")
    strange = Sealer(STRANGE).seal("x")
    _put(store, column, strange)
    _put(store, column, Sealer(OLD).seal("y"))
    done = {renewed.column: renewed for renewed in reseal(store, Sealer(f"{NEW},{OLD}"))}
    renewed = done[f"endpoints.{column.name}"]
    assert renewed.sealed == 1
    assert len(renewed.broken) == 1
    assert renewed.broken[0].startswith("endpoints/")
    assert strange in _values(store, column)
    with pytest.raises(SealBroken):
        Sealer(NEW).open(strange)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)  # SQLite has one writer at a time
def test_a_secret_that_is_changed_meanwhile_stays_changed(store: Store) -> None:
    column = next(column for column in sealed.columns() if column.table.name == "endpoints")
    _put(store, column, Sealer(OLD).seal("old"))
    theirs = Sealer(NEW).seal("new")
    sealer = Sealer(f"{NEW},{OLD}")

    def change(value: bytes) -> bytes | None:
        with store.begin() as tx:
            tx.conn.execute(update(column.table).values({column.name: theirs}))
        return sealer.renew(value)

    sealed.renew(store, column, change, SealBroken)
    assert _values(store, column) == [theirs]
