"""Statements that are kept: on both databases they give and store what SQLAlchemy's own execution does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import bindparam, event, insert, select, text, update
from sqlalchemy.exc import DataError, IntegrityError

from runyard_common.database.prepared import ByKeys, PreparedStatement
from runyard_common.database.rows import insert_of
from runyard_common.database.transaction import Store
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.tables.query import ConfigVersion, Task
from runyard_common.values.ids import uuid7
from tests.databases import opened

ADD = PreparedStatement(lambda postgres: insert_of(ConfigVersion, ("scope", "number")))
RAISE = PreparedStatement(
    lambda postgres: (
        update(ConfigVersion)
        .where(ConfigVersion.scope == bindparam("which"))
        .values(number=ConfigVersion.number + bindparam("by"))
        .returning(ConfigVersion.scope, ConfigVersion.number)
    )
)
ABOVE = PreparedStatement(
    lambda postgres: (
        select(ConfigVersion.scope, ConfigVersion.number)
        .where(ConfigVersion.number > bindparam("least"), ConfigVersion.scope.like("test-%"))
        .order_by(ConfigVersion.number)
    )
)
OF = ByKeys(
    ConfigVersion.scope, lambda chosen: select(ConfigVersion.scope, ConfigVersion.number).where(chosen)
)
ODD = ["plain", 'a "quote"', "back\\slash", "{brace, comma}", "NULL", "", "ü € 🙂", "50% %s %(x)s :y $1"]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    db = opened(database_url)
    yield Store(db)
    db.close()


def _add(store: Store, **numbers: int) -> None:
    with store.begin() as tx:
        ADD.send(tx.conn, *({"scope": f"test-{name}", "number": n} for name, n in numbers.items()))


def _above(store: Store, least: int = 0) -> dict[str, int]:
    with store.read() as conn:
        return {row.scope.removeprefix("test-"): row.number for row in ABOVE.all(conn, {"least": least})}


def test_rows_are_stored_and_read_and_a_transaction_sees_its_own(store: Store) -> None:
    with store.begin() as tx:
        ADD.send(tx.conn, {"scope": "test-a", "number": 1}, {"scope": "test-b", "number": 2})
        assert [row.scope for row in ABOVE.all(tx.conn, {"least": 1})] == ["test-b"]
    assert _above(store) == {"a": 1, "b": 2}


def test_each_gives_the_rows_of_all_parameters(store: Store) -> None:
    _add(store, a=1, b=2)
    with store.begin() as tx:
        given = [{"which": f"test-{name}", "by": 10} for name in ("a", "none", "b")]
        assert [row.number for row in RAISE.each(tx.conn, *given)] == [11, 12]
    assert _above(store) == {"a": 11, "b": 12}


def test_statements_of_sqlalchemy_may_come_before_and_after(store: Store) -> None:
    for number in range(8):  # past the number of times after which the driver prepares SQLAlchemy's
        with store.begin() as tx:
            tx.conn.execute(insert(ConfigVersion), {"scope": f"test-x{number}", "number": 0})
            (raised,) = RAISE.all(tx.conn, {"which": f"test-x{number}", "by": 1})
            found = tx.conn.execute(
                select(ConfigVersion.number).where(ConfigVersion.scope == f"test-x{number}")
            )
            assert raised.number == found.scalar_one() == 1


@pytest.mark.parametrize("some", [ODD[:1], ODD], ids=["one key", "several keys"])
def test_any_text_is_a_key(store: Store, some: list[str]) -> None:
    with store.begin() as tx:
        ADD.send(tx.conn, *({"scope": one, "number": 1} for one in ODD))
    with store.begin() as tx:
        assert {row.scope for row in OF.all(tx.conn, some)} == set(some)


def test_an_error_is_sqlalchemys_and_costs_its_transaction_alone(store: Store) -> None:
    _add(store, a=1)
    for number in range(10):
        with pytest.raises(IntegrityError):
            _add(store, **{f"lost{number}": 1, "a": 1})
        _add(store, **{f"kept{number}": 1})
    assert set(_above(store)) == {"a", *(f"kept{number}" for number in range(10))}


def test_an_error_within_a_savepoint_belongs_to_it(store: Store) -> None:
    _add(store, a=1)
    with store.begin() as tx:
        ADD.send(tx.conn, {"scope": "test-b", "number": 2})
        savepoint = tx.conn.begin_nested()
        with pytest.raises(IntegrityError):
            ADD.send(tx.conn, {"scope": "test-a", "number": 1})
        savepoint.rollback()
        assert len(RAISE.all(tx.conn, {"which": "test-b", "by": 1})) == 1
    assert _above(store) == {"a": 1, "b": 3}


def test_what_is_prepared_about_an_error_within_a_savepoint_is_prepared_again(store: Store) -> None:
    for number in range(8):  # past the number of times after which the driver prepares SQLAlchemy's
        with store.begin() as tx:
            savepoint = tx.conn.begin_nested()
            tx.conn.execute(text("SELECT 1"))
            ADD.send(tx.conn, {"scope": "test-a", "number": 1})
            with pytest.raises(IntegrityError):
                ADD.send(tx.conn, {"scope": "test-a", "number": 1})
            savepoint.rollback()
            ADD.send(tx.conn, {"scope": f"test-b{number}", "number": 1})
    assert len(_above(store)) == 8


def test_text_with_nul_is_stored_whole_or_refused(store: Store) -> None:
    if store.db.is_postgres:
        with pytest.raises(DataError), store.begin() as tx:
            ADD.send(tx.conn, {"scope": "test-a\0b", "number": 1})
        assert _above(store) == {}
    else:
        with store.begin() as tx:
            ADD.send(tx.conn, {"scope": "test-a\0b", "number": 1})
        assert _above(store) == {"a\0b": 1}


def test_values_pass_the_types_of_their_columns(store: Store) -> None:
    """Documents, bytes, times, truth, nothing: what comes back is what was given."""
    names = ("id", "org_id", "agent_id", "version_id", "agent_name", "version", "status", "front", "lane")
    given: dict[str, Any] = dict.fromkeys(names, "x") | {"id": uuid7(), "status": "queued"}
    given |= {
        "blocked_by": BlockedBy.child("c"),
        "meta": {"a": ['"', "\\", "\u0000", None, 1.5]},
        "title": None,
    }
    given |= {
        "secrets": b"\x00\xff'\\",
        "has_callback": True,
        "created_at": 1796000000.123456,
        "updated_at": 1e-9,
    }
    given |= {"retry_policy": {}, "priority": -5}
    columns = tuple(given)
    adding = PreparedStatement(lambda postgres: insert_of(Task, columns))
    looking = PreparedStatement(
        lambda postgres: select(*(getattr(Task, name) for name in columns)).where(Task.id == bindparam("i"))
    )
    with store.begin() as tx:
        adding.send(tx.conn, given)
        (row,) = looking.all(tx.conn, {"i": given["id"]})
        own = tx.conn.execute(looking.form(tx.conn).statement, {"i": given["id"]}).one()
    assert row._asdict() == given | {"blocked_by": own.blocked_by}
    assert tuple(row) == tuple(own)


def test_what_cannot_be_kept_is_refused(store: Store) -> None:
    expanding = PreparedStatement(
        lambda postgres: select(ConfigVersion.scope).where(ConfigVersion.scope.in_(["a"]))
    )
    with store.begin() as tx, pytest.raises(TypeError, match="expands"):
        expanding.all(tx.conn)


def test_who_listens_to_statements_hears_of_those_that_are_kept(store: Store) -> None:
    heard: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement)

    engine = store.db._writing
    event.listen(engine, "before_cursor_execute", note)
    _add(store, a=1)
    event.remove(engine, "before_cursor_execute", note)
    assert [one for one in heard if one.startswith("INSERT")] == [ADD._forms[engine.dialect.name].text]
