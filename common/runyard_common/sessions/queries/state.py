"""What agents keep for the next run of a session: small values by name. Who writes one has locked its scope before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, literal, select

from runyard_common.database import advisory, rows
from runyard_common.database.columns import dump
from runyard_common.database.pages import byte_length
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.transaction import Tx
from runyard_common.tables import query as tables

_T = tables.StateValue


def lock(tx: Tx, scopes: Iterable[str]) -> None:
    """Keep other transactions from changing the values of these scopes until this one ends."""
    advisory.lock(tx, [f"state|{scope}" for scope in scopes])


def values(conn: Connection, scope: str) -> dict[str, Any]:
    """All values of a scope, by name."""
    query = select(_T.name, _T.value).where(_T.scope == scope).order_by(_T.name)
    return {row.name: row.value for row in conn.execute(query)}


def get(conn: Connection, scope: str, name: str) -> tuple[Any, bool]:
    """One value, and whether it is there."""
    row = conn.execute(select(_T.value).where(_T.scope == scope, _T.name == name)).first()
    return (None, False) if row is None else (row.value, True)


def size(conn: Connection, scope: str, but: str) -> tuple[int, int]:
    """How many other values than this one there are, and their bytes."""
    query = select(func.count(), func.coalesce(func.sum(byte_length(_T.value)), 0))
    count, total = conn.execute(query.where(_T.scope == scope, _T.name != but)).one()
    return int(count), int(total)


@PreparedStatement
def _PUT(postgres: bool) -> Any:  # noqa: N802
    names = ("scope", "name", "org_id", "value", "updated_at")
    made = rows.insert(postgres, _T).values({name: bindparam(name) for name in names})
    new = {"value": made.excluded.value, "updated_at": made.excluded.updated_at}
    return made.on_conflict_do_update(index_elements=["scope", "name"], set_=new)


def put(tx: Tx, org_id: str, scope: str, name: str, value: Any) -> None:
    """Store a value."""
    _PUT.send(tx.conn, {"scope": scope, "name": name, "org_id": org_id, "value": value, "updated_at": tx.now})


def remove(tx: Tx, scope: str, name: str) -> bool:
    """Delete a value; whether it was there."""
    return bool(tx.conn.execute(delete(_T).where(_T.scope == scope, _T.name == name)).rowcount)


def remove_all(tx: Tx, scopes: Sequence[str]) -> None:
    """Delete all values of these scopes."""
    if scopes:
        tx.conn.execute(delete(_T).where(_T.scope.in_(scopes)))


def copy(tx: Tx, from_: str, to: str, before: float | None = None) -> None:
    """Give a new scope the values of another; `before`: only those that have not changed since this instant."""
    same = (_T.name, _T.org_id, _T.value, _T.updated_at)
    found = select(literal(to), *same).where(_T.scope == from_)
    if before is not None:
        found = found.where(_T.updated_at < before)
    tx.conn.execute(insert(_T).from_select(["scope", *(column.name for column in same)], found))


def length(value: Any) -> int:
    """Bytes of a value as it is stored."""
    return len(dump(value).encode())
