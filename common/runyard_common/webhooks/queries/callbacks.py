"""Where runs call back to, kept beside their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Callback

_COLUMNS = Callback.__table__.c


def keep(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Store callbacks; each row gives task_id, org_id, url, and headers (sealed, or None)."""
    if rows:
        tx.conn.execute(insert(Callback), [row | {"active": True, "created_at": tx.now} for row in rows])


def of_tasks(conn: Connection, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The callbacks of these tasks, by task."""
    ids = list(task_ids)
    if not ids:
        return {}
    query = select(*_COLUMNS).where(Callback.task_id.in_(ids))
    return {row.task_id: dict(row._mapping) for row in conn.execute(query)}


def switch_off(tx: Tx, task_ids: Sequence[str]) -> None:
    """Call these tasks' receivers no more."""
    if task_ids:
        tx.conn.execute(update(Callback).where(Callback.task_id.in_(task_ids)).values(active=False))


def forget(tx: Tx, task_ids: Sequence[str]) -> None:
    """Delete the callbacks of deleted tasks."""
    if task_ids:
        tx.conn.execute(delete(Callback).where(Callback.task_id.in_(task_ids)))
