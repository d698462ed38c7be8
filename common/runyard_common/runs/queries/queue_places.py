"""The lanes that one limit keeps queued, and how far they were served."""

from __future__ import annotations

from sqlalchemy import Connection, delete, exists, select, text

from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.fairness import QueuePlace
from runyard_common.tables.query import QueuePlace as Row
from runyard_common.tables.query import Task

# A loose index scan: one probe of ix_tasks_queued per lane, however long the lanes are.
_LANES = """
WITH RECURSIVE ring(lane, n) AS (
    SELECT (SELECT min(t.lane) FROM tasks t
            WHERE t.status = 'queued' AND t.held_by = :key AND t.resume = :resume AND t.lane {first} :start), 1
    UNION ALL
    SELECT (SELECT min(t.lane) FROM tasks t
            WHERE t.status = 'queued' AND t.held_by = :key AND t.resume = :resume AND t.lane > ring.lane), n + 1
    FROM ring WHERE ring.lane IS NOT NULL AND n < :most
) SELECT ring.lane, coalesce(lanes.weight, 1.0) AS weight
FROM ring LEFT JOIN lanes ON lanes.lane = ring.lane WHERE ring.lane IS NOT NULL ORDER BY ring.n
"""
_FROM, _AFTER = text(_LANES.format(first=">=")), text(_LANES.format(first=">"))


def lanes(
    conn: Connection, by: BlockedBy, resume: int, start: str, most: int, behind: bool = False
) -> list[tuple[str, float]]:
    """Lanes with work that this keeps queued, and their weights, from `start` or from the one behind it."""
    query = _AFTER if behind else _FROM
    asked = {"key": by.stored, "resume": resume, "start": start, "most": most}
    return [(row.lane, row.weight) for row in conn.execute(query, asked)]


def get(conn: Connection, by: BlockedBy, resume: int) -> QueuePlace:
    """How far the lanes of this limit were served."""
    query = select(Row.round, Row.lane, Row.given).where(Row.limit_key == by.stored, Row.resume == resume)
    found = conn.execute(query).first()
    return QueuePlace() if found is None else QueuePlace(*found)


# Places only advance: of two admissions at once the one that got farther counts.
_REACH = text("""
INSERT INTO queue_places AS known (limit_key, resume, round, lane, given)
VALUES (:key, :resume, :round, :lane, :given)
ON CONFLICT (limit_key, resume) DO UPDATE SET round = :round, lane = :lane, given = :given
WHERE known.round < :round OR known.round = :round
    AND (known.lane < :lane OR known.lane = :lane AND known.given < :given)
""")


def reach(tx: Tx, by: BlockedBy, resume: int, place: QueuePlace) -> None:
    """Note how far the lanes of this limit are served now."""
    reached = {"round": place.round, "lane": place.lane, "given": place.given}
    tx.conn.execute(_REACH, {"key": by.stored, "resume": resume} | reached)


def prune(tx: Tx, limit: int) -> int:
    """Forget the places of limits that keep nothing queued any more."""
    queued = exists().where(Task.status == "queued", Task.blocked_by == Row.limit_key)
    idle = select(Row.limit_key).where(~queued).limit(limit)
    return int(tx.conn.execute(delete(Row).where(Row.limit_key.in_(idle.scalar_subquery()))).rowcount)
