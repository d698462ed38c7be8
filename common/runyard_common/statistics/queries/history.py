"""What the tables of runs and turns have of a span of minutes.

A run that has ended never changes and neither does a turn, so a minute with as many of them as were summed has nothing
new: their numbers, which indexes have, are compared before rows are looked at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, case, select, text

from runyard_common.runs.rules.lifecycle import TERMINAL
from runyard_common.statistics.rules import COMPARED, MINUTE, RUN, TURNS, WAIT, Sums, bucket, failure
from runyard_common.tables.query import Task, Turn
from runyard_common.values.ids import first_uuid7

#: Organisations asked about in one statement.
_AT_ONCE: Final = 200

#: Of one minute: by kind ("" is all runs of the organisation) and name.
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
    return None if found is None else _made_at(found)


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


def of_span(
    conn: Connection, org_ids: Iterable[str], since: int, until: int
) -> dict[tuple[str, int], Breakdown]:
    """All that these organisations' runs did in a span, by organisation and minute (its first epoch second)."""
    found: dict[tuple[str, int], Breakdown] = defaultdict(lambda: defaultdict(Counter))
    ids = sorted(org_ids)
    for start in range(0, len(ids), _AT_ONCE):
        for rows in (_submitted, _ended, _asked):
            for org_id, at, dimensions, sums in rows(conn, ids[start : start + _AT_ONCE], since, until):
                breakdown = found[org_id, int(at) - int(at) % MINUTE]
                for dimension in dimensions:
                    breakdown[dimension].update(sums)
    return found


_Found = tuple[str, float, list[tuple[str, str]], Sums]


def _submitted(conn: Connection, org_ids: Sequence[str], since: int, until: int) -> Iterator[_Found]:
    columns = (Task.id, Task.org_id, Task.agent_id, Task.key_id, Task.end_user_id)
    mine = Task.org_id.in_(org_ids), Task.id >= first_uuid7(since), Task.id < first_uuid7(until)
    for row in conn.execute(select(*columns).where(*mine)):
        yield row.org_id, _made_at(row.id), _dimensions(row), Counter(submitted=1)


def _made_at(id_: str) -> float:
    return int(id_.replace("-", "")[:12], 16) / 1000


def _ended(conn: Connection, org_ids: Sequence[str], since: int, until: int) -> Iterator[_Found]:
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
        Task.finished_at >= since,
        Task.finished_at < until,
        Task.finished_at.is_not(None),
    )
    for row in conn.execute(query):
        yield row.org_id, row.finished_at, _dimensions(row), _ending(row)


def _ending(row: Any) -> Sums:
    sums: Sums = Counter({row.status: 1})
    if row.started_at is not None:
        sums[f"{WAIT}:{bucket(row.started_at - row.created_at)}"] = 1
        sums[f"{RUN}:{bucket(row.finished_at - row.started_at)}"] = 1
    if row.status == "failed":
        error = row.error if isinstance(row.error, dict) else {}
        sums[failure(error.get("cause"), error.get("code"))] = 1
    return sums


def _asked(conn: Connection, org_ids: Sequence[str], since: int, until: int) -> Iterator[_Found]:
    used = [getattr(Turn, name) for name in TURNS[1:]]
    query = (
        select(Turn.org_id, Turn.agent_id, Turn.key_id, Turn.model, Turn.at, Task.end_user_id, *used)
        .outerjoin(Task.__table__, Task.id == Turn.task_id)
        .where(Turn.org_id.in_(org_ids), Turn.at >= since, Turn.at < until)
    )
    for row in conn.execute(query):
        sums: Sums = Counter({name: int(getattr(row, name)) for name in TURNS[1:]} | {"turns": 1})
        yield row.org_id, row.at, [*_dimensions(row), ("model", row.model)], sums


def _dimensions(row: Any) -> list[tuple[str, str]]:
    found = [("", ""), ("agent", row.agent_id)]
    if row.key_id is not None:
        found.append(("key", row.key_id))
    if row.end_user_id is not None:
        found.append(("end_user", row.end_user_id))
    return found
