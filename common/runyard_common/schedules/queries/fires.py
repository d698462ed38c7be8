"""Fires: one row for each due time of each schedule, so that none fires twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, select, text, update

from runyard_common.database import advisory, rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.blocked_by import BlockedBy, Blocker
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task as TaskValue
from runyard_common.schedules.rules.firing import OpenRun
from runyard_common.tables.query import Fire, Schedule, Task

_OPEN = text("fires.outcome = 'fired'")  # spelled as in the index ix_fires_open


@dataclass(frozen=True, slots=True)
class FireRow:
    """A due time of a schedule and what it came to, as `runyard_common.schedules.tables.Fire` describes it."""

    schedule_id: str
    due_at: float
    outcome: str
    task_id: str | None
    reason: str | None
    fired_at: float


def claim(tx: Tx, fires: Sequence[FireRow]) -> set[tuple[str, float]]:
    """Insert fires; the (schedule id, due time) of those that were not there yet."""
    if not fires:
        return set()
    insert = rows.insert(tx.db.is_postgres, Fire)
    statement = insert.on_conflict_do_nothing().returning(Fire.schedule_id, Fire.due_at)
    return {
        (row.schedule_id, row.due_at)
        for row in tx.conn.execute(statement, [rows.values(fire) for fire in fires])
    }


def with_runs(conn: Connection, schedule_id: str, since: float, until: float) -> set[float]:
    """The due times of a schedule from `since` to `until` that a run was made for."""
    query = select(Fire.due_at).where(
        Fire.schedule_id == schedule_id, Fire.due_at.between(since, until), Fire.task_id.is_not(None)
    )
    return set(conn.execute(query).scalars())


def make_up(tx: Tx, made: Sequence[FireRow]) -> None:
    """Record runs of due times that had none, in place of why they had none. The schedule is locked."""
    for fire in made:
        tx.conn.execute(delete(Fire).where(Fire.schedule_id == fire.schedule_id, Fire.due_at == fire.due_at))
    claim(tx, made)


def open_runs(conn: Connection, schedule_ids: Iterable[str]) -> dict[str, list[OpenRun]]:
    """The runs of these schedules whose ends are not counted yet, by schedule."""
    ids = list(schedule_ids)
    if not ids:
        return {}
    query = (
        select(Fire.schedule_id, Fire.due_at, Fire.task_id, Task.status, Task.blocked_by.label("blocked_by"))
        .outerjoin(Task.__table__, Task.id == Fire.task_id)
        .where(_OPEN, Fire.schedule_id.in_(ids))
    )
    found: dict[str, list[OpenRun]] = {}
    for row in conn.execute(query):
        status = Status(row.status) if row.status else None
        by = row.blocked_by
        queued = status is Status.QUEUED and by is not None and by.kind is Blocker.SCHEDULE
        found.setdefault(row.schedule_id, []).append(OpenRun(row.due_at, row.task_id, status, queued))
    return found


def settle(tx: Tx, ends: Sequence[tuple[str, float, str, str | None]]) -> None:
    """Record what fires came to: (schedule id, due time, outcome, reason)."""
    if not ends:
        return
    statement = (
        update(Fire)
        .where(Fire.schedule_id == bindparam("s"), Fire.due_at == bindparam("d"))
        .values(outcome=bindparam("o"), reason=bindparam("r"))
    )
    tx.conn.execute(statement, [dict(zip("sdor", end, strict=True)) for end in ends])


def page(
    scope: OrgScope, schedule_id: str, limit: int, before: float | None = None
) -> list[tuple[FireRow, TaskValue | None]]:
    """Fires of a schedule with their tasks where they are kept, latest due first, due before `before`."""
    query = select(*rows.columns(FireRow, Fire)).join(Schedule, Schedule.id == Fire.schedule_id)
    query = query.where(Fire.schedule_id == schedule_id, Schedule.org_id == scope.org_id)
    if before is not None:
        query = query.where(Fire.due_at < before)
    fires = rows.every(scope.conn, query.order_by(Fire.due_at.desc()).limit(limit), FireRow)
    known = tasks.light(scope.conn, [fire.task_id for fire in fires if fire.task_id])
    return [(fire, known.get(fire.task_id or "")) for fire in fires]


def next_queued(tx: Tx, schedule_id: str) -> list[TaskValue]:
    """The run that may go on now because no earlier one of its schedule is under way: one, or none.

    Of several processes that ask at once one gets it.
    """
    advisory.lock(tx, [BlockedBy.schedule(schedule_id).stored])
    runs = open_runs(tx.conn, [schedule_id]).get(schedule_id, [])
    if any(not run.ended and not run.queued for run in runs):
        return []
    waiting = sorted((run.due_at, run.task_id) for run in runs if run.queued)
    return list(tasks.light(tx.conn, [task_id for _, task_id in waiting[:1]]).values())


def remove(tx: Tx, schedule_ids: Sequence[str]) -> None:
    """Delete the history of schedules."""
    tx.conn.execute(delete(Fire).where(Fire.schedule_id.in_(list(schedule_ids))))
