"""The doorbell outbox: what must be rung after its commit, kept until it was."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Outbox, Task


def overdue(tx: Tx, older_than: float, limit: int = 1000) -> list[str]:
    """Doorbells written before `older_than` (epoch seconds) that nobody has rung yet, locked."""
    query = select(Outbox.id).where(Outbox.at < older_than).order_by(Outbox.at).limit(limit)
    return list(tx.conn.execute(query.with_for_update(skip_locked=True)).scalars())


def rung(tx: Tx, ids: Sequence[str]) -> int:
    """Forget doorbells that were rung."""
    return int(tx.conn.execute(delete(Outbox).where(Outbox.id.in_(ids))).rowcount) if ids else 0


def unclaimed(conn: Connection, older_than: float, at_most: int = 1000) -> int:
    """Claimable tasks untouched since `older_than`: their doorbell was lost after it rang, or every worker is busy."""
    waiting = (
        select(Task.id)
        .where(Task.status == "pending", Task.updated_at < older_than)
        .limit(at_most)
        .subquery()
    )
    return int(conn.execute(select(func.count()).select_from(waiting)).scalar_one())
