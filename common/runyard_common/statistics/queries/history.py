"""What the tables of runs and turns have of a minute.

A run that has ended never changes and neither does a turn, so a minute with as many of them as were summed has nothing
new: their numbers, which indexes have, are compared before rows are looked at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, case, func, select, text

from runyard_common.runs.rules.lifecycle import TERMINAL
from runyard_common.statistics.rules import COMPARED, MINUTE, RUN, TURNS, WAIT, Sums, bucket, failure
from runyard_common.tables.query import Task, Turn
from runyard_common.values.ids import first_uuid7

#: Organisations asked about in one statement.
_AT_ONCE: Final = 200

#: By organisation, then by kind ("" is all of its runs) and name.
Breakdown = dict[tuple[str, str], Sums]

# A loose index scan: one probe an organisation, and one a count.
_NUMBERS = text("""
WITH RECURSIVE orgs(id) AS (
    SELECT min(org_id) FROM tasks
    UNION ALL
    SELECT (SELECT min(t.org_id) FROM tasks t WHERE t.org_id > orgs.id) FROM orgs WHERE orgs.id IS NOT NULL
)
SELECT id,
    (SELECT count(*) FROM tasks t WHERE t.org_id = orgs.id AND t.id >= :first AND t.id < :last) AS submitted,
    (SELECT count(*) FROM tasks t WHERE t.org_id = orgs.id AND t.status = 'completed'
        AND t.finished_at >= :since AND t.finished_at < :until AND t.finished_at IS NOT NULL) AS completed,
    (SELECT count(*) FROM tasks t WHERE t.org_id = orgs.id AND t.status = 'failed'
        AND t.finished_at >= :since AND t.finished_at < :until AND t.finished_at IS NOT NULL) AS failed,
    (SELECT count(*) FROM tasks t WHERE t.org_id = orgs.id AND t.status = 'stopped'
        AND t.finished_at >= :since AND t.finished_at < :until AND t.finished_at IS NOT NULL) AS stopped,
    (SELECT count(*) FROM turns u WHERE u.org_id = orgs.id AND u.at >= :since AND u.at < :until) AS turns
FROM orgs WHERE id IS NOT NULL
""")
_OLDEST = text("SELECT min(id) FROM tasks")


def oldest(conn: Connection) -> float | None:
    """When the oldest run was submitted, by its id, in epoch seconds."""
    found = conn.execute(_OLDEST).scalar()
    return None if found is None else int(found.replace("-", "")[:12], 16) / 1000


def numbers(conn: Connection, since: int, until: int) -> dict[str, Sums]:
    """How many runs and turns each organisation has of a span, by the names of `COMPARED`; those that have any.

    A run is submitted at the time of its id, which is that of the process that accepted it.
    """
    span = {
        "since": float(since),
        "until": float(until),
        "first": first_uuid7(since),
        "last": first_uuid7(until),
    }
    found = {}
    for row in conn.execute(_NUMBERS, span):
        counts = Counter({name: getattr(row, name) for name in COMPARED})
        if any(counts.values()):
            found[row.id] = counts
    return found


def of_minute(conn: Connection, org_ids: Iterable[str], minute: int) -> dict[str, Breakdown]:
    """All that these organisations' runs did in a minute that begins at this epoch second."""
    found: dict[str, Breakdown] = {}
    ids = sorted(org_ids)
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        for org_id in some:
            found[org_id] = defaultdict(Counter)
        for rows in (_submitted, _ended, _asked):
            for org_id, dimensions, sums in rows(conn, some, minute):
                for dimension in dimensions:
                    found[org_id][dimension].update(sums)
    return found


_Found = tuple[str, list[tuple[str, str]], Sums]


def _submitted(conn: Connection, org_ids: Sequence[str], minute: int) -> Iterator[_Found]:
    by = (Task.org_id, Task.agent_id, Task.key_id, Task.end_user_id)
    mine = Task.org_id.in_(org_ids), Task.id >= first_uuid7(minute), Task.id < first_uuid7(minute + MINUTE)
    for row in conn.execute(select(*by, func.count().label("runs")).where(*mine).group_by(*by)):
        yield row.org_id, _dimensions(row), Counter(submitted=row.runs)


def _ended(conn: Connection, org_ids: Sequence[str], minute: int) -> Iterator[_Found]:
    query = select(
        Task.org_id,
        Task.agent_id,
        Task.key_id,
        Task.end_user_id,
        Task.status,
        Task.created_at,
        Task.started_at,
        Task.finished_at,
        case((Task.status == "failed", Task.error)).label("error"),
    ).where(
        Task.org_id.in_(org_ids),
        Task.status.in_([status.value for status in TERMINAL]),
        Task.finished_at >= minute,
        Task.finished_at < minute + MINUTE,
        Task.finished_at.is_not(None),
    )
    for row in conn.execute(query):
        yield row.org_id, _dimensions(row), _ending(row)


def _ending(row: Any) -> Sums:
    sums: Sums = Counter({row.status: 1})
    if row.started_at is not None:
        sums[f"{WAIT}:{bucket(row.started_at - row.created_at)}"] = 1
        sums[f"{RUN}:{bucket(row.finished_at - row.started_at)}"] = 1
    if row.status == "failed":
        error = row.error if isinstance(row.error, dict) else {}
        sums[failure(error.get("cause"), error.get("code"))] = 1
    return sums


def _asked(conn: Connection, org_ids: Sequence[str], minute: int) -> Iterator[_Found]:
    by = (Turn.org_id, Turn.agent_id, Turn.key_id, Turn.model, Task.end_user_id)
    sums = [func.sum(getattr(Turn, name)).label(name) for name in TURNS[1:]]
    query = (
        select(*by, func.count().label("turns"), *sums)
        .outerjoin(Task.__table__, Task.id == Turn.task_id)
        .where(Turn.org_id.in_(org_ids), Turn.at >= minute, Turn.at < minute + MINUTE)
        .group_by(*by)
    )
    for row in conn.execute(query):
        used = Counter({name: int(getattr(row, name) or 0) for name in TURNS})
        yield row.org_id, [*_dimensions(row), ("model", row.model)], used


def _dimensions(row: Any) -> list[tuple[str, str]]:
    found = [("", ""), ("agent", row.agent_id)]
    if row.key_id is not None:
        found.append(("key", row.key_id))
    if row.end_user_id is not None:
        found.append(("end_user", row.end_user_id))
    return found
