"""A task's event log: numbered from 1 without gaps, kept as long as the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Text, bindparam, func, select, type_coerce, update

from runyard_common.database import pages
from runyard_common.database.pages import Page, Row, byte_length
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries.transitions import log
from runyard_common.runs.rules.tasks import Head
from runyard_common.tables.query import Task, TaskEvent
from runyard_common.webhooks.queries import deliveries

_COLUMNS = TaskEvent.__table__.c
# Put together once: streams read them for every client that comes back. The sizes are summed up without the data.
_SIZES = (
    select(TaskEvent.seq, func.coalesce(byte_length(TaskEvent.data), 0).label("size"))
    .where(TaskEvent.task_id == bindparam("task"), TaskEvent.seq > bindparam("above"))
    .order_by(TaskEvent.seq)
    .limit(bindparam("most"))
    .subquery()
)
_SUMS = select(
    _SIZES.c.seq,
    func.sum(_SIZES.c.size).over(order_by=_SIZES.c.seq, rows=(None, 0)).label("upto"),
    _SIZES.c.size,
    func.count().over().label("found"),
).subquery()
_AFTER = (
    select(*_COLUMNS, _SUMS.c.found, _SUMS.c.upto)
    .join(_SUMS, TaskEvent.seq == _SUMS.c.seq)
    .where(TaskEvent.task_id == bindparam("task"), _SUMS.c.upto - _SUMS.c.size < bindparam("bytes"))
    .order_by(TaskEvent.seq)
)
_LAST = select(Task.id, Task.last_seq).where(Task.id.in_(bindparam("tasks", expanding=True)))


def append(tx: Tx, heads: dict[str, Head], entries: Sequence[tuple[str, str, dict[str, Any]]]) -> list[int]:
    """Append (task id, type, data) entries to locked tasks; their numbers. `heads` is updated."""
    numbered: list[tuple[Head, str, dict[str, Any]]] = []
    for task_id, type_, data in entries:
        head = replace(heads[task_id], last_seq=heads[task_id].last_seq + 1)
        heads[task_id] = head
        numbered.append((head, type_, data))
    last = {head.id: head.last_seq for head, _, _ in numbered}
    tx.conn.execute(
        update(Task).where(Task.id == bindparam("task_id")).values(last_seq=bindparam("seq")),
        [{"task_id": task_id, "seq": seq} for task_id, seq in sorted(last.items())],
    )
    log(tx, numbered)
    deliveries.enqueue(tx, numbered)
    return [head.last_seq for head, _, _ in numbered]


def after(conn: Connection, task_id: str, seq: int, limit: int, most_bytes: int | None = None) -> Page[Row]:
    """A task's events with numbers above `seq`, in order; fewer than `limit`, and `more`, where they are large."""
    asked = {"task": task_id, "above": seq, "most": limit, "bytes": pages.budget(most_bytes)}
    rows = [dict(row._mapping) for row in conn.execute(_AFTER, asked)]
    counts = [(row.pop("found"), row.pop("upto")) for row in rows]
    if not counts:
        return Page()
    return Page(rows, counts[0][0] > len(rows), int(counts[-1][1]))


def outline(conn: Connection, task_id: str, limit: int) -> Page[Row]:
    """A task's first events, for answers that no cursor continues: see `pages.trimmed`."""
    query = select(*_COLUMNS).where(TaskEvent.task_id == task_id).order_by(TaskEvent.seq).limit(limit)
    return pages.trimmed(conn, query, "seq", ("data",))


def after_each(
    conn: Connection, asked: Sequence[tuple[str, int]], limit: int, most_bytes: int
) -> list[Page[Row]]:
    """Events of many tasks, each above a number: a query for all that have none, and one for each task that has.

    Whoever asks for the same as another is answered by the same list. Each page is bounded as those of `after`.
    """
    numbers = {
        row.id: row.last_seq for row in conn.execute(_LAST, {"tasks": list({id_ for id_, _ in asked})})
    }
    found: dict[tuple[str, int], Page[Row]] = {}
    for task_id, seq in set(asked):
        has_news = numbers.get(task_id, 0) > seq
        found[task_id, seq] = after(conn, task_id, seq, limit, most_bytes) if has_news else Page()
    return [found[one] for one in asked]


def count(conn: Connection, task_id: str, types: Sequence[str]) -> int:
    """How many events of these types a task's log has."""
    query = select(func.count()).where(TaskEvent.task_id == task_id, TaskEvent.type.in_(types))
    return int(conn.execute(query).scalar_one())


def first(
    conn: Connection, task_id: str, types: Sequence[str], above: int = 0, since: float = 0.0
) -> Row | None:
    """A task's first event of these types with a number above `above`, of the time `since` or later."""
    query = select(*_COLUMNS).where(
        TaskEvent.task_id == task_id, TaskEvent.type.in_(types), TaskEvent.seq > above, TaskEvent.at >= since
    )
    row = conn.execute(query.order_by(TaskEvent.seq).limit(1)).first()
    return dict(row._mapping) if row else None


def count_output(conn: Connection, task_id: str) -> int:
    """How many events `log` are lines that the agent's code has printed or logged, not reported: they name a
    `source`. A message cannot look like that, as its quotes are escaped."""
    data = type_coerce(TaskEvent.data, Text)
    query = select(func.count()).where(TaskEvent.task_id == task_id, TaskEvent.type == "log")
    return int(conn.execute(query.where(data.contains('"source":"'))).scalar_one())
