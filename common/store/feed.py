"""An organisation's events across its tasks, in the order of their times."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from common.store.tables.columns import Json

# Active tasks and those that ended since are found by an index each; their events by the events' key.
_SINCE = text("""
SELECT e.task_id, e.seq, e.type, e.attempt, e.data, e.at
FROM (
    SELECT id FROM tasks WHERE org_id = :org_id AND finished_at IS NULL
    UNION ALL
    SELECT id FROM tasks
    WHERE finished_at >= :at AND org_id = :org_id AND status IN ('completed', 'failed', 'stopped')
) t JOIN events e ON e.task_id = t.id
WHERE e.at >= :at AND (e.at, e.task_id, e.seq) > (:after_at, :after_task, :after_seq)
ORDER BY e.at, e.task_id, e.seq
LIMIT :limit
""").columns(data=Json)


Place = tuple[float, str, int]  # time, task, number


def since(
    conn: Connection, org_id: str, at: float, limit: int, after: Place | None = None
) -> list[dict[str, Any]]:
    """Events of all tasks of an organisation from `at` (epoch seconds) on and behind `after`, oldest first."""
    after_at, after_task, after_seq = after or (at, "", 0)
    values = {"org_id": org_id, "at": at, "limit": limit}
    rows = conn.execute(
        _SINCE, values | {"after_at": after_at, "after_task": after_task, "after_seq": after_seq}
    )
    return [dict(row._mapping) for row in rows]
