"""A task's event log: numbered from 1 without gaps, kept as long as the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Select, Text, bindparam, func, select, type_coerce, update

from runyard_common.database import pages
from runyard_common.database.pages import Page, byte_length
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries.transitions import log
from runyard_common.runs.rules.tasks import Head, OwnTask
from runyard_common.tables.query import Task, TaskEvent
from runyard_common.values.logged_event import LoggedEvent
from runyard_common.webhooks.queries import deliveries

#: An entry: its task as it is then, its type and its data.
Numbered = tuple[Head, str, dict[str, Any]]

_COLUMNS = TaskEvent.__table__.c
_NUMBERED = PreparedStatement(
    lambda postgres: update(Task).where(Task.id == bindparam("t")).values(last_seq=bindparam("seq"))
)
# Put together once: streams read them for every client that comes back. The sizes are summed up without the data.
_SIZES = (
    select(TaskEvent.seq, func.coalesce(byte_length(TaskEvent.data), 0).label("size"))
    .where(TaskEvent.task_id == bindparam("task"), TaskEvent.seq > bindparam("above"))
    .where(select(Task.id).where(Task.id == bindparam("task"), Task.org_id == bindparam("org")).exists())
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
_LAST = select(Task.id, Task.org_id, Task.last_seq).where(Task.id.in_(bindparam("tasks", expanding=True)))

#: The first key in the data of an event that was reported inside a step.
IN_STEP: Final = "step"


def append(
    tx: Tx,
    heads: dict[str, Head],
    entries: Sequence[tuple[str, str, dict[str, Any]]],
) -> list[int]:
    """Append (task id, type, data) entries to locked tasks; their numbers. `heads` is updated."""
    numbered = number(heads, entries)
    last = {head.id: head.last_seq for head, _, _ in numbered}
    _NUMBERED.send(tx.conn, *({"t": task_id, "seq": seq} for task_id, seq in sorted(last.items())))
    keep(tx, numbered)
    return [head.last_seq for head, _, _ in numbered]


def number(heads: dict[str, Head], entries: Sequence[tuple[str, str, dict[str, Any]]]) -> list[Numbered]:
    """The (task id, type, data) entries with the next numbers of their tasks, in `heads` too."""
    numbered: list[Numbered] = []
    for task_id, type_, data in entries:
        head = replace(heads[task_id], last_seq=heads[task_id].last_seq + 1)
        heads[task_id] = head
        numbered.append((head, type_, data))
    return numbered


def keep(tx: Tx, numbered: Sequence[Numbered]) -> None:
    """Store entries whose tasks have their numbers."""
    if numbered:
        log(tx, numbered)
        deliveries.enqueue(tx, numbered)


def after(
    scope: OrgScope, task_id: str, seq: int, limit: int, most_bytes: int | None = None
) -> Page[LoggedEvent]:
    """A task's events with numbers above `seq`, in order; fewer than `limit`, and `more`, where they are large."""
    asked = {"org": scope.org_id, "task": task_id, "above": seq, "most": limit}
    found = scope.conn.execute(_AFTER, asked | {"bytes": pages.budget(most_bytes)}).all()
    if not found:
        return Page()
    return Page(map(logged, found), found[0].found > len(found), int(found[-1].upto))


def logged(row: Any) -> LoggedEvent:
    """An event from its row."""
    return {
        "task_id": row.task_id,
        "seq": row.seq,
        "type": row.type,
        "attempt": row.attempt,
        "data": row.data,
        "at": row.at,
    }


def outline(scope: OrgScope, task_id: str, limit: int) -> Page[LoggedEvent]:
    """A task's first events, for answers that no cursor continues: see `pages.trimmed`."""
    query = _own(scope, task_id).order_by(TaskEvent.seq).limit(limit)
    return pages.trimmed(scope.conn, query, "seq", ("data",), kind=LoggedEvent)


def _own(scope: OrgScope, task_id: str) -> Select[Any]:
    owner = select(Task.id).where(Task.id == task_id, Task.org_id == scope.org_id)
    return select(*_COLUMNS).where(TaskEvent.task_id == task_id, owner.exists())


def after_each(
    conn: Connection, asked: Sequence[tuple[OwnTask, int]], limit: int, most_bytes: int
) -> list[Page[LoggedEvent]]:
    """Events of many tasks, each above a number: a query for all that have none, and one for each task that has.

    Callers that ask for the same are answered by the same list. Each page is bounded as those of `after`.
    """
    ids = list({own.task_id for own, _ in asked})
    numbers = {OwnTask(row.org_id, row.id): row.last_seq for row in conn.execute(_LAST, {"tasks": ids})}
    found: dict[tuple[OwnTask, int], Page[LoggedEvent]] = {}
    for own, seq in set(asked):
        has_news = numbers.get(own, 0) > seq
        scope = OrgScope(conn, own.org_id)
        found[own, seq] = after(scope, own.task_id, seq, limit, most_bytes) if has_news else Page()
    return [found[one] for one in asked]


def count(conn: Connection, task_id: str, types: Sequence[str]) -> int:
    """How many events of these types a task's log has, without those from inside a step: these begin with its name."""
    data = type_coerce(TaskEvent.data, Text)
    query = select(func.count()).where(TaskEvent.task_id == task_id, TaskEvent.type.in_(types))
    return int(conn.execute(query.where(~data.startswith(f'{{"{IN_STEP}":"'))).scalar_one())


def first(
    scope: OrgScope, task_id: str, types: Sequence[str], above: int = 0, since: float = 0.0
) -> LoggedEvent | None:
    """A task's first event of these types with a number above `above`, of the time `since` or later."""
    query = _own(scope, task_id).where(
        TaskEvent.type.in_(types), TaskEvent.seq > above, TaskEvent.at >= since
    )
    row = scope.conn.execute(query.order_by(TaskEvent.seq).limit(1)).first()
    return logged(row) if row else None


def count_output(conn: Connection, task_id: str) -> int:
    """How many events `log` are lines that the agent's code has printed or logged, not reported: they name a
    `source`. A message cannot look like that, as its quotes are escaped."""
    data = type_coerce(TaskEvent.data, Text)
    query = select(func.count()).where(TaskEvent.task_id == task_id, TaskEvent.type == "log")
    return int(conn.execute(query.where(data.contains('"source":"'))).scalar_one())
