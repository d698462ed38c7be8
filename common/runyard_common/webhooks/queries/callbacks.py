"""Where runs call back to, kept beside their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Callback


@dataclass(frozen=True, slots=True)
class CallbackRow:
    """Where a run calls back. `headers` are sealed; inactive once its receiver has answered 410."""

    task_id: str
    org_id: str
    url: str
    headers: bytes | None
    active: bool = True


def keep(tx: Tx, callbacks: Sequence[CallbackRow]) -> None:
    """Store callbacks."""
    if callbacks:
        made = {"created_at": tx.now}
        tx.conn.execute(insert(Callback), [rows.values(row) | made for row in callbacks])


def of_tasks(conn: Connection, task_ids: Iterable[str]) -> dict[str, CallbackRow]:
    """The callbacks of these tasks, by task."""
    ids = list(task_ids)
    if not ids:
        return {}
    query = select(*rows.columns(CallbackRow, Callback)).where(Callback.task_id.in_(ids))
    return {row.task_id: row for row in rows.every(conn, query, CallbackRow)}


def switch_off(tx: Tx, task_ids: Sequence[str]) -> None:
    """Call these tasks' receivers no more."""
    if task_ids:
        tx.conn.execute(update(Callback).where(Callback.task_id.in_(task_ids)).values(active=False))


def forget(tx: Tx, task_ids: Sequence[str]) -> None:
    """Delete the callbacks of deleted tasks."""
    if task_ids:
        tx.conn.execute(delete(Callback).where(Callback.task_id.in_(task_ids)))
