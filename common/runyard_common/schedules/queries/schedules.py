"""Schedule rows: kept, listed, and claimed when their time has come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from runyard_common.database import pages, rows
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.schedules.rules.catchup import CatchUp
from runyard_common.schedules.rules.firing import Advance
from runyard_common.schedules.rules.policies import Overlap
from runyard_common.schedules.rules.stored_schedule import ScheduleState, StoredSchedule
from runyard_common.tables.query import Organisation, Schedule

_NAMES = [field.name for field in fields(StoredSchedule)]
_COLUMNS = [getattr(Schedule, name) for name in _NAMES]
#: The columns of a schedule that may be large.
_WIDE = ("run", "secrets", "meta")
_MOST_LISTED = 10_000
_OVERLAP, _CATCH_UP = _NAMES.index("overlap"), _NAMES.index("catch_up")


def stored(row: Any) -> StoredSchedule:
    """A schedule from its row, which has the columns of `StoredSchedule` in their order."""
    values = list(row)
    values[_OVERLAP], values[_CATCH_UP] = Overlap(values[_OVERLAP]), CatchUp(values[_CATCH_UP])
    return StoredSchedule(*values)


def insert_many(tx: Tx, new: Sequence[StoredSchedule]) -> None:
    """Insert schedules."""
    if new:
        tx.conn.execute(insert(Schedule), [rows.values(schedule) for schedule in new])


def get(scope: OrgScope, schedule_id: str, lock: bool = False) -> StoredSchedule | None:
    """One schedule of an organisation; with `lock` it stays as it is until the transaction ends."""
    query = select(*_COLUMNS).where(Schedule.id == schedule_id, Schedule.org_id == scope.org_id)
    row = scope.conn.execute(query.with_for_update() if lock else query).first()
    return stored(row) if row else None


def page(
    scope: OrgScope,
    limit: int,
    before: str | None = None,
    agent_id: str | None = None,
    state: ScheduleState | None = None,
) -> Page[StoredSchedule]:
    """Schedules of an organisation, newest first, older than the id `before`; fewer, and `more`, where their runs are
    large."""
    query = select(*_COLUMNS).where(Schedule.org_id == scope.org_id)
    if before is not None:
        query = query.where(Schedule.id < before)
    if agent_id is not None:
        query = query.where(Schedule.agent_id == agent_id)
    if state is ScheduleState.FINISHED:
        query = query.where(Schedule.finished_at.is_not(None))
    elif state is not None:
        query = query.where(
            Schedule.finished_at.is_(None), Schedule.enabled.is_(state is ScheduleState.ACTIVE)
        )
    found = pages.bounded(scope.conn, query.order_by(Schedule.id.desc()).limit(limit), "id", _WIDE)
    return Page((stored(row) for row in found), found.more)


def outline(scope: OrgScope, agent_id: str | None = None) -> list[StoredSchedule]:
    """Every schedule of an organisation, newest first, for lists that no cursor continues. Behind the budget of
    `pages.trimmed` large ones have no `run`."""
    query = select(*_COLUMNS).where(Schedule.org_id == scope.org_id)
    if agent_id is not None:
        query = query.where(Schedule.agent_id == agent_id)
    ordered = query.order_by(Schedule.id.desc()).limit(_MOST_LISTED)
    return pages.trimmed(scope.conn, ordered, "id", _WIDE, kind=_outlined)


def _outlined(**values: Any) -> StoredSchedule:
    return stored((values | {"run": values["run"] or {}}).values())


def count_live(conn: Connection, org_id: str, at_most: int) -> int:
    """How many schedules of an organisation may be due again, counted up to `at_most`."""
    live = (
        select(Schedule.id)
        .where(Schedule.org_id == org_id, Schedule.finished_at.is_(None))
        .limit(at_most)
        .subquery()
    )
    return int(conn.execute(select(func.count()).select_from(live)).scalar_one())


def claim_due(tx: Tx, limit: int, without: Collection[str] = ()) -> list[StoredSchedule]:
    """Schedules whose time has come, locked; those another process handles are skipped. Longest due first."""
    query = select(*_COLUMNS).where(Schedule.wake_at <= tx.now)
    if without:
        query = query.where(Schedule.id.not_in(list(without)))
    query = query.order_by(Schedule.wake_at).limit(limit).with_for_update(skip_locked=True)
    return [stored(row) for row in tx.conn.execute(query)]


def lock_free(tx: Tx, schedule_ids: Iterable[str]) -> list[StoredSchedule]:
    """Those of these schedules that no other process handles now, locked."""
    query = select(*_COLUMNS).where(Schedule.id.in_(list(schedule_ids))).order_by(Schedule.id)
    return [stored(row) for row in tx.conn.execute(query.with_for_update(skip_locked=True))]


def next_wake(conn: Connection, without: Collection[str] = ()) -> float | None:
    """When the next schedule is due (epoch seconds, possibly past), or None when none ever is."""
    query = select(func.min(Schedule.wake_at)).where(Schedule.wake_at.is_not(None))
    if without:
        query = query.where(Schedule.id.not_in(list(without)))
    found = conn.execute(query).scalar()
    return None if found is None else float(found)


def due_ids(conn: Connection, now: float, limit: int, without: Collection[str] = ()) -> list[str]:
    """Schedules whose time has come, the longest due first."""
    query = select(Schedule.id).where(Schedule.wake_at <= now)
    if without:
        query = query.where(Schedule.id.not_in(list(without)))
    return list(conn.execute(query.order_by(Schedule.wake_at).limit(limit)).scalars())


_ADVANCED = [field.name for field in fields(Advance)]


def advance(tx: Tx, advances: Mapping[str, Advance]) -> None:
    """Store how far schedules have come, by their ids."""
    if not advances:
        return
    values = {name: bindparam(f"new_{name}", type_=getattr(Schedule, name).type) for name in _ADVANCED}
    statement = update(Schedule).where(Schedule.id == bindparam("which")).values(updated_at=tx.now, **values)
    tx.conn.execute(
        statement,
        [
            {"which": id_} | {f"new_{name}": getattr(made, name) for name in _ADVANCED}
            for id_, made in advances.items()
        ],
    )


def change(tx: Tx, schedule_id: str, **values: Any) -> None:
    """Set columns of one schedule."""
    tx.conn.execute(update(Schedule).where(Schedule.id == schedule_id).values(updated_at=tx.now, **values))


def remove(tx: Tx, schedule_ids: Sequence[str]) -> None:
    """Delete schedules; their fires are the caller's to delete."""
    tx.conn.execute(delete(Schedule).where(Schedule.id.in_(list(schedule_ids))))


def deactivated(conn: Connection, org_ids: Iterable[str]) -> set[str]:
    """Those of these organisations that are deactivated."""
    query = select(Organisation.id).where(Organisation.id.in_(list(org_ids)), Organisation.active.is_(False))
    return set(conn.execute(query).scalars())
