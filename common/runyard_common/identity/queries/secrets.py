"""The secrets of organisations, for their agents: sealed values by name."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables import query as tables

_T = tables.Secret


@dataclass(frozen=True, slots=True)
class SecretRow:
    """What is shown of a secret: everything but its value. Times are epoch seconds."""

    name: str
    created_at: float
    updated_at: float
    updated_by: str


_SHOWN = rows.columns(SecretRow, _T)


def page(scope: OrgScope, limit: int, after: str | None = None) -> list[SecretRow]:
    """The organisation's secrets in the order of their names, behind `after`."""
    query = select(*_SHOWN).where(_T.org_id == scope.org_id)
    if after is not None:
        query = query.where(_T.name > after)
    return rows.every(scope.conn, query.order_by(_T.name).limit(limit), SecretRow)


def get(scope: OrgScope, name: str) -> SecretRow | None:
    """One secret."""
    query = select(*_SHOWN).where(_T.org_id == scope.org_id, _T.name == name)
    return rows.first(scope.conn, query, SecretRow)


def sealed(conn: Connection, org_id: str, name: str) -> bytes | None:
    """The sealed value of a secret."""
    found = conn.execute(select(_T.value).where(_T.org_id == org_id, _T.name == name)).scalar()
    return None if found is None else bytes(found)


def put(tx: Tx, org_id: str, name: str, value: bytes, by: str) -> None:
    """Store a sealed value, in place of the one that the name has."""
    row = {"org_id": org_id, "name": name, "value": value, "updated_by": by, "updated_at": tx.now}
    made = rows.insert(tx.db.is_postgres, _T).values(**row, created_at=tx.now)
    new = {column: made.excluded[column] for column in ("value", "updated_by", "updated_at")}
    tx.conn.execute(made.on_conflict_do_update(index_elements=["org_id", "name"], set_=new))


def remove(tx: Tx, org_id: str, name: str) -> bool:
    """Delete a secret; whether it was there."""
    return bool(tx.conn.execute(delete(_T).where(_T.org_id == org_id, _T.name == name)).rowcount)
