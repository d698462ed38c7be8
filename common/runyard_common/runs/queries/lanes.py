"""Lanes with work, and the virtual time they have used."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select, text

from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.fairness import LaneClock
from runyard_common.tables.query import Lane

SYSTEM = "*"

# A loose index scan: one probe of ix_tasks_claim per lane, however long the lanes are.
_PENDING = text("""
WITH RECURSIVE heads(lane) AS (
    SELECT min(lane) FROM tasks WHERE status = 'pending'
    UNION ALL
    SELECT (SELECT min(t.lane) FROM tasks t WHERE t.status = 'pending' AND t.lane > heads.lane)
    FROM heads WHERE heads.lane IS NOT NULL
) SELECT lane FROM heads WHERE lane IS NOT NULL
""")

_QUEUED = text("""
WITH RECURSIVE heads(lane) AS (
    SELECT min(lane) FROM tasks WHERE status = 'queued' AND held_by = :key
    UNION ALL
    SELECT (SELECT min(t.lane) FROM tasks t WHERE t.status = 'queued' AND t.held_by = :key AND t.lane > heads.lane)
    FROM heads WHERE heads.lane IS NOT NULL
) SELECT lane FROM heads WHERE lane IS NOT NULL
""")


def pending(conn: Connection) -> list[str]:
    """Every lane that has claimable work."""
    return list(conn.execute(_PENDING).scalars())


def queued(conn: Connection, by: BlockedBy) -> list[str]:
    """Every lane that has work which this keeps queued."""
    return list(conn.execute(_QUEUED, {"key": by.stored}).scalars())


def clocks(conn: Connection, lanes: list[str]) -> tuple[dict[str, LaneClock], float]:
    """The clocks of these lanes, and the system's virtual time."""
    query = select(Lane.lane, Lane.weight, Lane.vtime).where(Lane.lane.in_([*lanes, SYSTEM]))
    found = {row.lane: LaneClock(row.weight, row.vtime) for row in conn.execute(query)}
    return found, found.pop(SYSTEM, LaneClock()).vtime


def charge(tx: Tx, served: Mapping[str, int], floor: float, system: float) -> None:
    """Add what was served to each lane's virtual time, counted from `floor` at least; set the system's time.

    Additive, so that two workers claiming at once both count.
    """
    rows = [{"lane": lane, "floor": floor, "count": count} for lane, count in sorted(served.items())]
    if rows:
        tx.conn.execute(_CHARGE, rows)
        tx.conn.execute(_SYSTEM, {"lane": SYSTEM, "vtime": system})


_CHARGE = text("""
INSERT INTO lanes (lane, weight, vtime) VALUES (:lane, 1.0, :floor + :count)
ON CONFLICT (lane) DO UPDATE SET
    vtime = (CASE WHEN lanes.vtime > :floor THEN lanes.vtime ELSE :floor END) + :count / lanes.weight
""")

_SYSTEM = text("""
INSERT INTO lanes (lane, weight, vtime) VALUES (:lane, 1.0, :vtime)
ON CONFLICT (lane) DO UPDATE SET vtime = (CASE WHEN lanes.vtime > :vtime THEN lanes.vtime ELSE :vtime END)
""")

_WEIGHT = text("""
INSERT INTO lanes (lane, weight, vtime) VALUES (:lane, :weight, 0.0)
ON CONFLICT (lane) DO UPDATE SET weight = :weight
""")


def weigh(tx: Tx, lane: str, weight: float) -> None:
    """Set a lane's share, relative to the other lanes' weights (> 0)."""
    tx.conn.execute(_WEIGHT, {"lane": lane, "weight": weight})
