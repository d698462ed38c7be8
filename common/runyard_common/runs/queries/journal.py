"""The journal: what a task has already done, so that no attempt does it twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_, update

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import JournalEntry

_COLUMNS = JournalEntry.__table__.c


def insert_many(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Insert entries; each row gives task_id, key, pos, attempt, kind, name, effect, state and more."""
    empty = {"fingerprint": None, "detail": None, "value": None, "ended_at": None, "began_at": tx.now}
    tx.conn.execute(insert(JournalEntry), [empty | row for row in rows])


def end_many(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """End begun entries: each row gives task_id, key, state (done or failed) and value."""
    statement = (
        update(JournalEntry)
        .where(JournalEntry.task_id == bindparam("t"), JournalEntry.key == bindparam("k"))
        .values(state=bindparam("s"), value=bindparam("v", type_=_COLUMNS.value.type), ended_at=tx.now)
    )
    tx.conn.execute(
        statement, [{"t": r["task_id"], "k": r["key"], "s": r["state"], "v": r["value"]} for r in rows]
    )


def written(tx: Tx, keys: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str], str]:
    """The states of those (task id, key, attempt) entries that this attempt has written already."""
    query = select(JournalEntry.task_id, JournalEntry.key, JournalEntry.attempt, JournalEntry.state).where(
        tuple_(JournalEntry.task_id, JournalEntry.key).in_([(task_id, key) for task_id, key, _ in keys])
    )
    wanted = set(keys)
    return {
        (row.task_id, row.key): row.state
        for row in tx.conn.execute(query)
        if (row.task_id, row.key, row.attempt) in wanted
    }


def progressed(tx: Tx, attempts: Sequence[tuple[str, int]]) -> set[str]:
    """Those of these (task id, attempt) whose attempt has finished a step."""
    if not attempts:
        return set()
    query = select(JournalEntry.task_id).where(
        tuple_(JournalEntry.task_id, JournalEntry.attempt).in_(attempts), JournalEntry.state == "done"
    )
    return set(tx.conn.execute(query.distinct()).scalars())


def reopen(tx: Tx, task_id: str, key: str, attempt: int) -> None:
    """Begin an entry again in a later attempt."""
    tx.conn.execute(
        update(JournalEntry)
        .where(JournalEntry.task_id == task_id, JournalEntry.key == key)
        .values(attempt=attempt, began_at=tx.now, state="begun", ended_at=None)
    )


def drop(tx: Tx, task_id: str, keys: Sequence[str]) -> None:
    """Remove entries, so that they run afresh."""
    tx.conn.execute(delete(JournalEntry).where(JournalEntry.task_id == task_id, JournalEntry.key.in_(keys)))


def load(conn: Connection, task_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Whole journals by task, each in order of beginning."""
    query = (
        select(*_COLUMNS)
        .where(JournalEntry.task_id.in_(task_ids))
        .order_by(JournalEntry.task_id, JournalEntry.pos)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in conn.execute(query):
        found.setdefault(row.task_id, []).append(dict(row._mapping))
    return found


def open_irreversible(conn: Connection, task_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each task, an irreversible step that began and never ended, if there is one."""
    query = select(*_COLUMNS).where(
        JournalEntry.task_id.in_(task_ids),
        JournalEntry.state == "begun",
        JournalEntry.effect == "irreversible",
    )
    return {row.task_id: dict(row._mapping) for row in conn.execute(query)}


def drop_failed(tx: Tx, task_ids: Sequence[str]) -> None:
    """Remove failed entries before another attempt: it tries those steps again."""
    if task_ids:
        tx.conn.execute(
            delete(JournalEntry).where(JournalEntry.task_id.in_(task_ids), JournalEntry.state == "failed")
        )


def copy(tx: Tx, from_task: str, to_task: str) -> int:
    """Copy finished entries to another task (a retry of a failed run pays for nothing twice)."""
    rows = [
        dict(row._mapping) | {"task_id": to_task, "attempt": 0}
        for row in tx.conn.execute(
            select(*_COLUMNS).where(JournalEntry.task_id == from_task, JournalEntry.state == "done")
        )
    ]
    if rows:
        tx.conn.execute(insert(JournalEntry), rows)
    return len(rows)
