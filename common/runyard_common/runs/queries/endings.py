"""Runs that something ends: whether they have something to undo first."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from runyard_common.runs.rules.endings import COMPENSATION, REGISTERED, Known, left, step_of
from runyard_common.runs.rules.journal import Step
from runyard_common.tables.query import JournalEntry, Task


def known(conn: Connection, task_ids: Sequence[str]) -> dict[str, Known]:
    """What is known of these runs, of those that have an ending or registered compensations."""
    of = (JournalEntry.task_id == Task.id, JournalEntry.kind == REGISTERED)
    registered = select(func.count()).select_from(JournalEntry.__table__).where(*of).scalar_subquery()
    query = select(Task.id, Task.ending, registered.label("registered")).where(Task.id.in_(task_ids))
    rows = conn.execute(query).all()
    return {row.id: Known(row.ending, row.registered) for row in rows if row.ending or row.registered}


def under_way(conn: Connection, task_ids: Sequence[str]) -> dict[str, Step]:
    """The compensation that each of these runs is at, or that comes next: the last registered of those that have not
    ended, in the place behind all that its journal has. Runs that have none left are not there."""
    entry = JournalEntry
    query = select(entry.task_id, entry.key, entry.kind, entry.name)
    query = query.where(entry.task_id.in_(task_ids), entry.kind.in_((REGISTERED, COMPENSATION)))
    found: dict[str, list[tuple[str, str, str]]] = {}
    for row in conn.execute(query.order_by(entry.task_id, entry.pos)) if task_ids else ():
        found.setdefault(row.task_id, []).append((row.key, row.kind, row.name))
    waiting = {task_id: rest[-1] for task_id, entries in found.items() if (rest := left(entries))}
    last = select(entry.task_id, func.max(entry.pos).label("pos")).where(entry.task_id.in_(waiting))
    rows = conn.execute(last.group_by(entry.task_id)).all() if waiting else ()
    return {row.task_id: step_of(*waiting[row.task_id], pos=row.pos + 1) for row in rows}
