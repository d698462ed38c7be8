"""An error within a pipelined transaction of PostgreSQL costs that transaction, and no later one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import bindparam, insert, literal, text

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Outdated, Store
from runyard_common.tables.query import ConfigVersion
from tests.databases import opened

pytestmark = pytest.mark.postgres


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = opened(database_url)
    yield db
    db.close()


def _write(store: Store, scope: str, holds: bool) -> None:
    with store.begin() as tx:
        tx.require(literal(holds), lambda: None)
        tx.conn.execute(insert(ConfigVersion), {"scope": scope, "number": 1})
        tx.conn.execute(text("SELECT :n + 1").bindparams(bindparam("n", 1)))


def test_statements_that_were_to_be_prepared_behind_an_error_are_prepared_again(db: Database) -> None:
    """psycopg prepares a statement at its sixth execution: the error comes before, at, and after that."""
    store = Store(db)
    for number in range(12):
        _write(store, f"kept-{number}", True)
        with pytest.raises(Outdated):
            _write(store, f"lost-{number}", False)
    for number in range(12, 24):
        _write(store, f"kept-{number}", True)
    with db.read() as conn:
        kept = conn.execute(
            text("SELECT count(*), sum(number) FROM config_versions WHERE scope LIKE 'kept-%'")
        ).one()
        assert tuple(kept) == (24, 24)
        assert conn.execute(text("SELECT 1 FROM config_versions WHERE scope LIKE 'lost-%'")).first() is None


def test_what_is_required_within_a_savepoint_ends_the_whole_transaction(db: Database) -> None:
    store, seen = Store(db), []

    def write() -> None:
        with store.begin() as tx, tx.conn.begin_nested():
            tx.require(literal(False), lambda: seen.append("outdated"))

    with pytest.raises(Outdated):
        write()
    assert seen == ["outdated"]
    _write(store, "kept", True)
