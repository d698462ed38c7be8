"""Idempotency keys: who works on a request, and the answer that is kept for its repetitions."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.identity.tables import Idempotency
from runyard_common.tables.query import Task

_C = Idempotency.__table__.c


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer that is kept for repetitions of a request."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class IdempotencyRow:
    """A request by its key, as `runyard_common.identity.tables.Idempotency` describes it."""

    org_id: str
    key: str
    body_hash: str
    owner: str
    lease_until: float | None
    headers: dict[str, str] | None
    expires_at: float
    status: int | None = None
    body: bytes | None = None
    size: int = 0


def get(conn: Connection, org_id: str, key: str) -> IdempotencyRow | None:
    """What is known of a key; an expired entry counts as none to its reader."""
    query = select(*rows.columns(IdempotencyRow, Idempotency)).where(_C.org_id == org_id, _C.key == key)
    return rows.first(conn, query.with_for_update(), IdempotencyRow)


def put(tx: Tx, entry: IdempotencyRow) -> None:
    """Store a key, in place of any entry it had."""
    tx.conn.execute(delete(Idempotency).where(_C.org_id == entry.org_id, _C.key == entry.key))
    tx.conn.execute(insert(Idempotency), rows.values(entry) | {"created_at": tx.now})


def hand_over(tx: Tx, org_id: str, key: str, owner: str, lease_until: float) -> None:
    """Give an unfinished key to another owner."""
    mine = (_C.org_id == org_id, _C.key == key)
    tx.conn.execute(update(Idempotency).where(*mine).values(owner=owner, lease_until=lease_until))


def renew(tx: Tx, org_id: str, key: str, owner: str, lease_until: float) -> bool:
    """Extend this owner's lease on an unfinished key; False when it has lost the key."""
    mine = (_C.org_id == org_id, _C.key == key, _C.owner == owner, _C.status.is_(None))
    done = tx.conn.execute(update(Idempotency).where(*mine).values(lease_until=lease_until))
    return bool(done.rowcount)


def is_task(conn: Connection, org_id: str, id_: str) -> bool:
    """Whether the organisation has a task of this id."""
    return conn.execute(select(Task.id).where(Task.org_id == org_id, Task.id == id_)).first() is not None


def keep(tx: Tx, org_id: str, key: str, owner: str, answer: KeptAnswer) -> bool:
    """Keep the answer, if the key is still this owner's."""
    mine = (_C.org_id == org_id, _C.key == key, _C.owner == owner)
    values = rows.values(answer) | {"size": len(answer.body), "lease_until": None}
    done = tx.conn.execute(update(Idempotency).where(*mine).values(**values))
    return bool(done.rowcount)


def release(tx: Tx, org_id: str, key: str, owner: str) -> None:
    """Free an unfinished key, if it is still this owner's."""
    mine = (_C.org_id == org_id, _C.key == key, _C.owner == owner, _C.status.is_(None))
    tx.conn.execute(delete(Idempotency).where(*mine))


def lapse(tx: Tx, org_id: str, key: str, owner: str) -> None:
    """End this owner's lease on an unfinished key."""
    mine = (_C.org_id == org_id, _C.key == key, _C.owner == owner, _C.status.is_(None))
    tx.conn.execute(update(Idempotency).where(*mine).values(lease_until=tx.now))


def prune(tx: Tx, limit: int = 1000) -> int:
    """Delete expired entries; how many."""
    old = select(_C.org_id, _C.key).where(_C.expires_at < tx.now).limit(limit)
    found = tx.conn.execute(old).all()
    for row in found:
        tx.conn.execute(delete(Idempotency).where(_C.org_id == row.org_id, _C.key == row.key))
    return len(found)
