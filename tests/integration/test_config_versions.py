"""Every change of an organisation's configuration raises its number, in SQL of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from sqlalchemy import Connection, text

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.tables import metadata
from tests.databases import opened

_ORG: Final = "0a"
_OTHER: Final = "0b"
#: A row of each table that counts, and the number that it raises.
_ROWS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "agents": ({"id": "a1", "org_id": _ORG, "name": "@t/a", "is_active": True, "functional": True}, _ORG),
    "agent_versions": ({"id": "v1", "org_id": _ORG, "agent_id": "kept", "yanked": False}, _ORG),
    "agent_tags": ({"agent_id": "kept", "tag": "latest", "version_id": "v"}, _ORG),
    "limits": ({"id": "l1", "org_id": _ORG, "kind": "agent", "selector": "*", "max_concurrent": 3}, _ORG),
    "endpoints": ({"id": "e1", "org_id": _ORG, "url": "https://x", "active": True}, _ORG),
    "organisations": ({"id": _ORG, "name": "o", "weight": 1.0, "active": True}, _ORG),
    "members": ({"org_id": _ORG, "user_id": "u1", "role": "admin"}, _ORG),
    "api_keys": ({"id": "k1", "org_id": _ORG, "key_hash": "h", "role": "admin"}, _ORG),
}  # fmt: skip
#: Columns that change in passing, and that no run is accepted by.
_NOT_READ: Final = {
    "organisations": {"balance_micros", "created_at"},
    "api_keys": {"name", "prefix", "created_by", "created_at", "last_used_at"},
    "endpoints": {
        "secret", "old_secret", "old_secret_until", "disabled_reason", "failing_since", "max_parallel",
        "max_per_second", "paced_until", "meta", "created_at", "updated_at",
    },
}  # fmt: skip


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = opened(database_url)
    with db.begin() as conn:
        _insert(conn, "agents", _ROWS["agents"][0] | {"id": "kept", "name": "@t/kept"})
    yield db
    db.close()


def _insert(conn: Connection, table: str, values: dict[str, Any]) -> None:
    columns = metadata.tables[table].c
    # What has to be there, though this test does not look at it.
    filled = {
        c.name: _other(c.name, c.type.python_type) for c in columns if not c.nullable and c.name not in values
    }
    row = filled | values
    names = ", ".join(row)
    conn.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + n for n in row)})"), row)


def _other(name: str, kind: type) -> Any:
    """A value that no row has yet."""
    _made[0] += 1
    if kind in (int, float):
        return kind(_made[0])
    return {bool: False, bytes: b"other"}.get(kind, f"other{_made[0]}")


_made = [100]


def _numbers(db: Database) -> dict[str, int]:
    with db.read() as conn:
        return {
            row.scope: row.number for row in conn.execute(text("SELECT scope, number FROM config_versions"))
        }


def _raised(db: Database, statement: str, values: dict[str, Any] | None = None) -> set[str]:
    """The numbers that a statement raises."""
    before = _numbers(db)
    with db.begin() as conn:
        conn.execute(text(statement), values or {})
    after = _numbers(db)
    assert all(after[scope] >= number for scope, number in before.items())
    return {scope for scope, number in after.items() if number != before.get(scope)}


@pytest.mark.parametrize("table", _ROWS)
def test_rows_raise_the_number_when_they_come_change_and_go(db: Database, table: str) -> None:
    row, scope = _ROWS[table]
    before = _numbers(db)
    with db.begin() as conn:
        _insert(conn, table, row)
    assert _numbers(db)[scope] == before.get(scope, 0) + 1
    key = next(iter(metadata.tables[table].primary_key.columns)).name
    where = f"WHERE {key} = '{row[key]}'"
    for column in metadata.tables[table].c:
        if column.primary_key or column.name in ("org_id", "agent_id", "shared"):
            continue  # those: see below
        value: Any = not row.get(column.name, False)
        if column.type.python_type is not bool:
            value = _other(column.name, column.type.python_type)
        wanted = set() if column.name in _NOT_READ.get(table, ()) else {scope}
        found = _raised(db, f"UPDATE {table} SET {column.name} = :value {where}", {"value": value})
        assert found == wanted, column.name
    assert _raised(db, f"DELETE FROM {table} {where}") == {scope}


def test_a_row_that_goes_to_another_organisation_raises_both(db: Database) -> None:
    with db.begin() as conn:
        for table in ("limits", "endpoints", "api_keys"):
            _insert(conn, table, _ROWS[table][0])
    for table in ("limits", "endpoints", "api_keys"):
        assert _raised(db, f"UPDATE {table} SET org_id = '{_OTHER}'") == {_ORG, _OTHER}
        assert _raised(db, f"UPDATE {table} SET org_id = '*'") == {_OTHER, "*"}


def test_an_agent_that_is_shared_concerns_every_organisation(db: Database) -> None:
    with db.begin() as conn:
        _insert(conn, "agent_versions", _ROWS["agent_versions"][0])
        _insert(conn, "agent_tags", _ROWS["agent_tags"][0])
    assert _raised(db, "UPDATE agents SET shared = :yes", {"yes": True}) == {_ORG, "*"}
    assert _raised(db, "UPDATE agents SET is_active = :no", {"no": False}) == {"*"}
    assert _raised(db, "UPDATE agent_versions SET status = 'archived'") == {"*"}
    assert _raised(db, "DELETE FROM agent_tags") == {"*"}


def test_what_is_written_in_passing_raises_nothing(db: Database) -> None:
    with db.begin() as conn:
        for table in ("organisations", "api_keys", "endpoints"):
            _insert(conn, table, _ROWS[table][0])
    assert _raised(db, "UPDATE organisations SET balance_micros = 7") == set()
    assert _raised(db, "UPDATE api_keys SET last_used_at = 7") == set()
    assert _raised(db, "UPDATE endpoints SET failing_since = 7, paced_until = 8") == set()
    assert _raised(db, "UPDATE endpoints SET active = active") == set()


def test_a_transaction_raises_a_number_once_and_a_rolled_back_one_not(db: Database) -> None:
    before = _numbers(db)[_ORG]
    with db.begin() as conn:
        savepoint = conn.begin_nested()
        _insert(conn, "limits", _ROWS["limits"][0])
        savepoint.rollback()
        _insert(conn, "limits", _ROWS["limits"][0])
    after = _numbers(db)[_ORG]
    assert after == before + 1
    with db.engine.connect() as conn:
        conn.execute(text("DELETE FROM limits"))
        conn.rollback()
    assert _numbers(db)[_ORG] == after


def test_thousands_of_agents_are_published_in_one_transaction(db: Database) -> None:
    many = 300
    before = _numbers(db)[_ORG]
    with Store(db).begin() as tx:
        for number in range(many):
            agents.publish(
                tx, _ORG, parse({"name": f"@t/n{number}", "version": "1.0.0", "instructions": "x"})
            )
    after = _numbers(db)[_ORG]
    assert after == before + 1 if db.is_postgres else after > before
