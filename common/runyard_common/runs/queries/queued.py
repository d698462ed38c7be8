"""Queued tasks: what keeps them, and which of them are next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, func, literal_column, or_, select, text, tuple_, update

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.admission import MAP, Kind
from runyard_common.runs.rules.blocked_by import RESUME, BlockedBy, Blocker
from runyard_common.runs.rules.tasks import Task
from runyard_common.tables import query as runs

_T: Final[Any] = runs.Task
#: Written out, as in `pending`: a partial index serves.
_QUEUED: Final[Any] = literal_column("'queued'")


def blocked(
    conn: Connection,
    by: BlockedBy,
    now: float,
    limit: int,
    lane: tuple[str, int] | None = None,
    after: Task | None = None,
) -> list[Task]:
    """The next tasks that this keeps queued, without inputs, not yet locked; back-offs that last are left out.

    `lane` is a lane and one value of `resume`, for its tasks in the order in which they are let through, those
    `after` one.
    """
    query = select(*tasks.LIGHT).where(_T.status == _QUEUED, _T.blocked_by == by)
    query = query.where(or_(_T.available_at.is_(None), _T.available_at <= now))
    if lane is not None:
        query = query.where(_T.lane == lane[0], _T.resume == lane[1])
    if after is not None:
        query = query.where(tuple_(_T.priority, _T.id) > (after.priority, after.id))
    query = query.order_by(_T.resume, _T.lane, _T.priority, _T.id).limit(limit)
    return [tasks.task(row) for row in conn.execute(query)]


def due(conn: Connection, now: float, limit: int) -> list[Task]:
    """Queued tasks whose back-off is over, without inputs."""
    query = select(*tasks.LIGHT).where(_T.status == _QUEUED, _T.available_at <= now)
    return [tasks.task(row) for row in conn.execute(query.order_by(_T.available_at).limit(limit))]


def blockers(conn: Connection, after: str, limit: int) -> list[BlockedBy]:
    """What keeps tasks queued, in the order of stored forms, from the one after `after`."""
    return [
        BlockedBy.parse(one) for one in conn.execute(_BLOCKERS, {"after": after, "limit": limit}).scalars()
    ]


# A loose index scan over ix_tasks_queued: one probe per limit, however many tasks wait for it.
_BLOCKERS = text("""
WITH RECURSIVE heads(key, n) AS (
    SELECT min(held_by), 1 FROM tasks WHERE status = 'queued' AND held_by > :after
    UNION ALL
    SELECT (SELECT min(t.held_by) FROM tasks t WHERE t.status = 'queued' AND t.held_by > heads.key), n + 1
    FROM heads WHERE heads.key IS NOT NULL AND n < :limit
) SELECT key FROM heads WHERE key IS NOT NULL
""")


#: What keeps runs queued, without the names in it: a kind of limit, or what a run waits for.
KEEPS: Final = (
    *(f"limit_{kind}" for kind in (*Kind, MAP)),
    *(blocker.value for blocker in Blocker if blocker is not Blocker.LIMIT),
)
_BY: Final[Any] = literal_column("tasks.held_by")
_SCOPES: Final = ("_" * 36, "*")  # an organisation's id, or all of them
_KEPT: Final = case(
    *((or_(*(_BY.like(f"{of}|{kind}:%") for of in _SCOPES)), f"limit_{kind}") for kind in (*Kind, MAP)),
    *((or_(_BY.in_([by.value]), _BY.like(f"{by}:%")), by.value) for by in Blocker if by is not Blocker.LIMIT),
    else_=Blocker.RESUME.value,
)


def kept(conn: Connection) -> list[tuple[str, int, float]]:
    """How many tasks each of `KEEPS` keeps queued, where it does, and since when the oldest of them is."""
    query = select(_KEPT.label("by"), func.count().label("runs"), func.min(_T.updated_at).label("since"))
    found = conn.execute(query.where(_T.status == _QUEUED).group_by(text("1")))
    return [(row.by, row.runs, float(row.since)) for row in found]


def resume(tx: Tx, task_ids: Sequence[str]) -> None:
    """Let admission look at these tasks next: what they waited for is there. Their rows are locked."""
    tx.conn.execute(update(_T).where(_T.id.in_(task_ids)).values(blocked_by=RESUME, available_at=None))


def block(tx: Tx, queued: Sequence[tuple[str, BlockedBy]]) -> None:
    """Note for each of these tasks what keeps it queued now; its back-off, if it had one, is over."""
    if queued:
        now: dict[str, Any] = {"blocked_by": bindparam("by"), "available_at": None}
        statement = update(_T).where(_T.id == bindparam("task_id")).values(now)
        tx.conn.execute(statement, [{"task_id": task_id, "by": by} for task_id, by in queued])
