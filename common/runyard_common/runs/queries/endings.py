"""Runs that something ends: whether they have something to undo first."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from runyard_common.runs.rules.endings import REGISTERED, Known
from runyard_common.tables.query import JournalEntry, Task


def known(conn: Connection, task_ids: Sequence[str]) -> dict[str, Known]:
    """What is known of these runs, of those that have an ending or registered compensations."""
    of = (JournalEntry.task_id == Task.id, JournalEntry.kind == REGISTERED)
    registered = select(func.count()).select_from(JournalEntry.__table__).where(*of).scalar_subquery()
    query = select(Task.id, Task.ending, registered.label("registered")).where(Task.id.in_(task_ids))
    rows = conn.execute(query).all()
    return {row.id: Known(row.ending, row.registered) for row in rows if row.ending or row.registered}
