"""Lanes with work, and the virtual time they have used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Connection, Double, Integer, Text, text

from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.fairness import LaneClock, Place

SYSTEM = "*"

#: The most lanes that one look reads.
MOST = 64

# A loose index scan: one probe of ix_tasks_claim per lane, however long the lanes are; first those behind the last one
# that was served, then from the beginning.
WINDOW = text("""
WITH RECURSIVE place(vtime, passed) AS (
    SELECT coalesce(max(vtime), 0.0), coalesce(CAST(:after AS VARCHAR), max(passed), '') FROM lanes WHERE lane = '*'
), ahead(lane, n) AS (
    SELECT (SELECT min(t.lane) FROM tasks t WHERE t.status = 'pending' AND t.lane > place.passed), 1 FROM place
    UNION ALL
    SELECT (SELECT min(t.lane) FROM tasks t WHERE t.status = 'pending' AND t.lane > ahead.lane), n + 1
    FROM ahead WHERE ahead.lane IS NOT NULL AND n < :most
), behind(lane, n) AS (
    SELECT (SELECT min(t.lane) FROM tasks t WHERE t.status = 'pending' AND t.lane <= place.passed),
        1 + (SELECT count(lane) FROM ahead)
    FROM place WHERE place.passed <> '' AND (SELECT count(lane) FROM ahead) < :most
    UNION ALL
    SELECT (SELECT min(t.lane) FROM tasks t
            WHERE t.status = 'pending' AND t.lane > behind.lane AND t.lane <= place.passed), n + 1
    FROM behind, place WHERE behind.lane IS NOT NULL AND n < :most
) SELECT found.lane AS in_lane, count(*) OVER () AS lanes,
    lanes.weight, lanes.vtime, place.vtime AS system, place.passed
FROM (SELECT lane, n FROM ahead UNION ALL SELECT lane, n FROM behind) AS found
CROSS JOIN place LEFT JOIN lanes ON lanes.lane = found.lane
WHERE found.lane IS NOT NULL ORDER BY found.n
""").columns(
    Column("in_lane", Text),
    Column("lanes", Integer),
    Column("weight", Double),
    Column("vtime", Double),
    Column("system", Double),
    Column("passed", Text),
)


_WINDOW = PreparedStatement(lambda postgres: WINDOW)


@dataclass(frozen=True, slots=True)
class Window:
    """Lanes with claimable work, in the order of the ring; `whole`: there are no others."""

    clocks: dict[str, LaneClock]
    place: Place
    whole: bool


def window(conn: Connection, after: str | None = None, most: int = MOST) -> Window:
    """The next lanes that have claimable work, behind `after`: by default the last one that was served."""
    return windowed(_WINDOW.all(conn, {"after": after, "most": most}), most)


def windowed(found: Sequence[Any], most: int) -> Window:
    """The window of these rows of `WINDOW`; a lane may have several."""
    clocks = {
        row.in_lane: LaneClock() if row.vtime is None else LaneClock(row.weight, row.vtime) for row in found
    }
    place = Place(found[0].system, found[0].passed) if found else Place()
    return Window(clocks, place, len(clocks) < most)


#: No lane has work.
NOTHING: Final = windowed([], 1)


def charge(tx: Tx, served: Mapping[str, int], floor: float, place: Place) -> None:
    """Add what was served to each lane's virtual time, counted from `floor` at least; set the place that is reached.

    Additive, so that two workers claiming at once both count.
    """
    rows = [{"lane": lane, "floor": floor, "count": count} for lane, count in sorted(served.items())]
    if rows:
        tx.conn.execute(_CHARGE, rows)
        tx.conn.execute(_REACH, {"lane": SYSTEM, "vtime": place.system, "passed": place.passed})


_CHARGE = text("""
INSERT INTO lanes (lane, weight, vtime) VALUES (:lane, 1.0, :floor + :count)
ON CONFLICT (lane) DO UPDATE SET
    vtime = (CASE WHEN lanes.vtime > :floor THEN lanes.vtime ELSE :floor END) + :count / lanes.weight
""")

# Places only advance: by rounds, and by lanes within one.
_REACH = text("""
INSERT INTO lanes (lane, weight, vtime, passed) VALUES (:lane, 1.0, :vtime, :passed)
ON CONFLICT (lane) DO UPDATE SET
    passed = (CASE WHEN lanes.vtime > :vtime OR lanes.vtime = :vtime AND lanes.passed > :passed
              THEN lanes.passed ELSE :passed END),
    vtime = (CASE WHEN lanes.vtime > :vtime THEN lanes.vtime ELSE :vtime END)
""")

_WEIGHT = text("""
INSERT INTO lanes (lane, weight, vtime) VALUES (:lane, :weight, 0.0)
ON CONFLICT (lane) DO UPDATE SET weight = :weight
""")


def weigh(tx: Tx, lane: str, weight: float) -> None:
    """Set a lane's share, relative to the other lanes' weights (> 0)."""
    tx.conn.execute(_WEIGHT, {"lane": lane, "weight": weight})
