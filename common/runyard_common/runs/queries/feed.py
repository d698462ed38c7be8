"""An organisation's events across its tasks, in the order of their times."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from runyard_common.database import pages
from runyard_common.database.columns import Json
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries.events import logged
from runyard_common.values.logged_event import LoggedEvent

# Active tasks and those that ended since are found by an index each; their events by the events' key. The sizes are
# summed up without the data, which is read only as far as a page may go.
_SINCE: Final = """
WITH chosen AS (
    SELECT e.task_id, e.seq, e.at, COALESCE({bytes_of_data}, 0) AS size
    FROM (
        SELECT id FROM tasks WHERE org_id = :org_id AND finished_at IS NULL
        UNION ALL
        SELECT id FROM tasks
        WHERE finished_at >= :at AND org_id = :org_id AND status IN ('completed', 'failed', 'stopped')
    ) t JOIN events e ON e.task_id = t.id
    WHERE e.at >= :at AND (e.at, e.task_id, e.seq) > (:after_at, :after_task, :after_seq)
    ORDER BY e.at, e.task_id, e.seq
    LIMIT :limit
), sums AS (
    SELECT task_id, seq, size, count(*) OVER () AS found,
        sum(size) OVER (ORDER BY at, task_id, seq ROWS UNBOUNDED PRECEDING) AS upto
    FROM chosen
)
SELECT e.task_id, e.seq, e.type, e.attempt, e.data, e.at, s.found, s.upto
FROM sums s JOIN events e ON e.task_id = s.task_id AND e.seq = s.seq
WHERE s.upto - s.size < :bytes
ORDER BY e.at, e.task_id, e.seq
"""
_QUERIES: Final = {
    name: text(_SINCE.format(bytes_of_data=size)).columns(data=Json)
    for name, size in (("sqlite", "length(CAST(e.data AS BLOB))"), ("", "octet_length(e.data)"))
}


Place = tuple[float, str, int]  # time, task, number


def since(
    scope: OrgScope,
    at: float,
    limit: int,
    after: Place | None = None,
    most_bytes: int | None = None,
) -> Page[LoggedEvent]:
    """Events of all tasks of an organisation from `at` (epoch seconds) on and behind `after`, oldest first.

    At most `limit`; fewer where they are large (see `pages`). `more`: others may follow.
    """
    after_at, after_task, after_seq = after or (at, "", 0)
    values = {"org_id": scope.org_id, "at": at, "limit": limit, "bytes": pages.budget(most_bytes)}
    values |= {"after_at": after_at, "after_task": after_task, "after_seq": after_seq}
    query = _QUERIES.get(scope.conn.dialect.name, _QUERIES[""])
    rows = scope.conn.execute(query, values).all()
    if not rows:
        return Page()
    found = rows[0].found
    return Page(map(logged, rows), found > len(rows) or found == limit, int(rows[-1].upto))


def place_of(event: LoggedEvent) -> Place:
    """The place of an event, to read on behind it."""
    return (event["at"], event["task_id"], event["seq"])
