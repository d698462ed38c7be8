"""A task's event log: numbered from 1 without gaps, kept as long as the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from common.store import deliveries
from common.store.tables.query import Task, TaskEvent
from common.store.transaction import Tx
from common.store.transitions import Head, log

_COLUMNS = TaskEvent.__table__.c


def append(tx: Tx, heads: dict[str, Head], entries: Sequence[tuple[str, str, dict[str, Any]]]) -> list[int]:
    """Append (task id, type, data) entries to locked tasks; their numbers. `heads` is updated."""
    numbered: list[tuple[Head, str, dict[str, Any]]] = []
    for task_id, type_, data in entries:
        head = replace(heads[task_id], last_seq=heads[task_id].last_seq + 1)
        heads[task_id] = head
        numbered.append((head, type_, data))
    last = {head.id: head.last_seq for head, _, _ in numbered}
    tx.conn.execute(
        update(Task).where(Task.id == bindparam("task_id")).values(last_seq=bindparam("seq")),
        [{"task_id": task_id, "seq": seq} for task_id, seq in sorted(last.items())],
    )
    log(tx, numbered)
    deliveries.promise(tx, numbered)
    return [head.last_seq for head, _, _ in numbered]


def after(conn: Connection, task_id: str, seq: int, limit: int) -> list[dict[str, Any]]:
    """A task's events with numbers above `seq`, in order."""
    query = select(*_COLUMNS).where(TaskEvent.task_id == task_id, TaskEvent.seq > seq)
    return [dict(row._mapping) for row in conn.execute(query.order_by(TaskEvent.seq).limit(limit))]


def after_many(conn: Connection, cursors: dict[str, int], limit: int = 1000) -> list[dict[str, Any]]:
    """Events of several tasks above each one's number, in order per task."""
    found: list[dict[str, Any]] = []
    for task_id, seq in cursors.items():
        found.extend(after(conn, task_id, seq, limit))
    return found


def count(conn: Connection, task_id: str, types: Sequence[str]) -> int:
    """How many events of these types a task's log has."""
    query = select(func.count()).where(TaskEvent.task_id == task_id, TaskEvent.type.in_(types))
    return int(conn.execute(query).scalar_one())
