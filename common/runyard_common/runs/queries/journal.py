"""The journal: what a task has already done, so that no attempt does it twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Text,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    type_coerce,
    update,
)

from runyard_common.database import pages, rows
from runyard_common.database.pages import byte_length
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Condition, Tx
from runyard_common.runs.rules.journal import (
    JournalEntry,
    Placed,
    TimedEntry,
    Unread,
    caught,
    enclosing,
    tried_again,
)
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.tables import query as tables
from runyard_common.tables.query import Task

_T = tables.JournalEntry
_COLUMNS = rows.columns(JournalEntry, _T)
_END = PreparedStatement(
    lambda postgres: (
        update(_T)
        .where(_T.task_id == bindparam("t"), _T.key == bindparam("k"))
        .values(
            state=bindparam("s"),
            value=bindparam("v", type_=_T.__table__.c.value.type),
            ended_at=bindparam("at"),
        )
    )
)
_COLUMNS_SET = (*(column.name for column in _COLUMNS), "began_at", "ended_at")


@PreparedStatement
def _INSERT(postgres: bool) -> Any:  # noqa: N802
    made = rows.insert(postgres, _T).values({name: bindparam(name) for name in _COLUMNS_SET})
    return made.on_conflict_do_nothing().returning(_T.task_id, _T.key)


@Condition
def _IS_NEW() -> Any:  # noqa: N802
    made = _INSERT.make(True).cte("made")
    return select(func.count()).select_from(made).scalar_subquery() == 1


def insert_new(tx: Tx, entries: Sequence[JournalEntry]) -> set[tuple[str, str]]:
    """Insert entries, begun or ended now; the (task id, key) of those that were not on record.

    The others were written by the same attempt before, and only the answer was lost. Raises where another attempt
    wrote one: it would be done twice.
    """
    if not entries:
        return set()
    task_ids = {one.task_id for one in entries}
    if (
        tx.remembered(task_ids) is not None
    ):  # they are new, unless an answer was lost: then the next try looks
        for one in entries:
            tx.require(_IS_NEW, partial(tx.memory.forget, task_ids), _row(tx, one))
        return {(one.task_id, one.key) for one in entries}
    made = {(row.task_id, row.key) for row in _INSERT.each(tx.conn, *(_row(tx, one) for one in entries))}
    left = [one for one in entries if (one.task_id, one.key) not in made]
    if left:
        known = written(tx, [(one.task_id, one.key, one.attempt) for one in left])
        others = [one for one in left if (one.task_id, one.key) not in known]
        if others:
            tx.conn.execute(insert(_T), [_row(tx, one) for one in others])
    return made


def _row(tx: Tx, entry: JournalEntry) -> dict[str, Any]:
    return rows.values(entry) | {"began_at": tx.now, "ended_at": None if entry.state == "begun" else tx.now}


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The end of a step that is on record as begun; `state` is done or failed."""

    task_id: str
    key: str
    value: Any
    state: str = "done"


def end_many(tx: Tx, ends: Sequence[StepEnd]) -> None:
    """End begun entries."""
    if ends:
        given = [{"t": one.task_id, "k": one.key, "s": one.state, "v": one.value} for one in ends]
        _END.send(tx.conn, *(row | {"at": tx.now} for row in given))


def written(tx: Tx, keys: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str], str]:
    """The states of those (task id, key, attempt) entries that this attempt has written already."""
    query = select(_T.task_id, _T.key, _T.attempt, _T.state).where(
        tuple_(_T.task_id, _T.key).in_([(task_id, key) for task_id, key, _ in keys])
    )
    wanted = set(keys)
    return {
        (row.task_id, row.key): row.state
        for row in tx.conn.execute(query)
        if (row.task_id, row.key, row.attempt) in wanted
    }


def progressed(tx: Tx, attempts: Sequence[tuple[str, int]]) -> set[str]:
    """Those of these (task id, attempt) whose attempt has finished a step."""
    if not attempts:
        return set()
    query = select(_T.task_id).where(tuple_(_T.task_id, _T.attempt).in_(attempts), _T.state == "done")
    return set(tx.conn.execute(query.distinct()).scalars())


def reopen(tx: Tx, task_id: str, key: str, attempt: int) -> None:
    """Begin an entry again in a later attempt."""
    tx.conn.execute(
        update(_T)
        .where(_T.task_id == task_id, _T.key == key)
        .values(attempt=attempt, began_at=tx.now, state="begun", ended_at=None)
    )


def drop(tx: Tx, task_id: str, keys: Sequence[str]) -> None:
    """Remove entries, so that they run again."""
    tx.conn.execute(delete(_T).where(_T.task_id == task_id, _T.key.in_(keys)))


def load(conn: Connection, task_ids: Sequence[str]) -> dict[str, list[JournalEntry]]:
    """Whole journals by task, each in order of beginning."""
    query = select(*_COLUMNS).where(_T.task_id.in_(task_ids)).order_by(_T.task_id, _T.pos)
    found: dict[str, list[JournalEntry]] = {}
    for entry in rows.every(conn, query, JournalEntry):
        found.setdefault(entry.task_id, []).append(entry)
    return found


# The sizes are summed up without the values.
_SIZES = (
    select(_T.key, _T.pos, func.coalesce(byte_length(_T.value), 0).label("size"))
    .where(_T.task_id == bindparam("task"))
    .subquery()
)
_SUMS = select(
    _SIZES.c.key,
    _SIZES.c.size,
    func.sum(_SIZES.c.size).over(order_by=(_SIZES.c.pos, _SIZES.c.key), rows=(None, 0)).label("upto"),
).subquery()
_OUTLINE = (
    select(
        *(column for column in _COLUMNS if column.name != "value"),
        case((_SUMS.c.upto <= bindparam("most"), type_coerce(_T.value, Text))).label("text"),
        _SUMS.c.size,
        _SUMS.c.upto,
    )
    .join(_SUMS, _T.key == _SUMS.c.key)
    .where(_T.task_id == bindparam("task"))
)


def outline(conn: Connection, task_id: str, most_bytes: int = pages.MOST_BYTES) -> list[JournalEntry]:
    """A whole journal in order of beginning, with the first values up to `most_bytes` together; the others `Unread`."""
    found = []
    for row in conn.execute(_OUTLINE, {"task": task_id, "most": most_bytes}):
        given = dict(row._mapping)
        text, size, upto = given.pop("text"), given.pop("size"), given.pop("upto")
        value = Unread(size) if upto > most_bytes else None if text is None else orjson.loads(text)
        found.append(JournalEntry(**given, value=value))
    return sorted(found, key=lambda entry: entry.pos)


def timed(conn: Connection, task_id: str, after: int, limit: int, most_bytes: int) -> list[TimedEntry]:
    """The entries of a journal behind the position `after`, in order of beginning, each with its times; what a step was
    called with and what it gave only where that has at most so many bytes."""

    def small(column: Any) -> Any:
        return case((byte_length(column) <= most_bytes, type_coerce(column, Text))).label(column.key)

    def size(column: Any) -> Any:
        return func.coalesce(byte_length(column), 0).label(f"{column.key}_bytes")

    columns = [getattr(_T, f.name) for f in fields(TimedEntry) if hasattr(_T, f.name) and f.name not in _WIDE]
    columns += [part(getattr(_T, name)) for name in _WIDE for part in (small, size)]
    query = (
        select(*columns).where(_T.task_id == task_id, _T.pos > after).order_by(_T.pos, _T.key).limit(limit)
    )
    return [
        TimedEntry(**(dict(row._mapping) | {name: _parsed(row._mapping[name]) for name in _WIDE}))
        for row in conn.execute(query)
    ]


_WIDE = ("detail", "value")


def _parsed(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def began(conn: Connection, task_id: str, key: str) -> tuple[int, float] | None:
    """The position of an entry, and when it began; None where the journal has none of this key."""
    row = conn.execute(select(_T.pos, _T.began_at).where(_T.task_id == task_id, _T.key == key)).first()
    return None if row is None else (row.pos, row.began_at)


def values(conn: Connection, task_id: str, keys: Sequence[str]) -> dict[str, Any]:
    """The values of these entries of one journal."""
    query = select(_T.key, _T.value).where(_T.task_id == task_id, _T.key.in_(keys))
    return {row.key: row.value for row in conn.execute(query)}


def last_of_session(scope: OrgScope, session_id: str, agent: str, key: str) -> str | None:
    """The run of this agent in the session that completed last, of those with the journal entry `key`."""
    query = (
        select(Task.id)
        .where(
            Task.session_id == session_id,
            Task.org_id == scope.org_id,
            Task.agent_name == agent,
            Task.status == Status.COMPLETED,
            exists().where(_T.task_id == Task.id, _T.key == key),
        )
        .order_by(Task.finished_at.desc(), Task.id.desc())
        .limit(1)
    )
    found: str | None = scope.conn.execute(query).scalar()
    return found


def open_irreversible(conn: Connection, task_ids: Sequence[str]) -> dict[str, JournalEntry]:
    """For each task, an irreversible step that began and never ended, if there is one."""
    query = select(*_COLUMNS).where(
        _T.task_id.in_(task_ids),
        _T.state == "begun",
        _T.effect == "irreversible",
    )
    return {entry.task_id: entry for entry in rows.every(conn, query, JournalEntry)}


def drop_failed(tx: Tx, task_ids: Sequence[str], ended_by: Mapping[str, str] | None = None) -> None:
    """Remove failed entries before another attempt: it tries those steps again. Failures that the code caught stay:
    what it did next depends on them. One that ended its attempt all the same (`ended_by`: its key, by task) is removed
    with the clean-up of its handlers."""
    failed = _failed(tx.conn, task_ids) if task_ids else False
    if failed:
        again = _again(tx.conn, ended_by or {})
        if again:
            tx.conn.execute(delete(_T).where(tuple_(_T.task_id, _T.key).in_(again)))
        kept = _caught(tx.conn, task_ids)
        unwanted = (_T.task_id.in_(task_ids), _T.state == "failed")
        of_key = tuple_(_T.task_id, _T.key).not_in(kept) if kept else literal(True)
        tx.conn.execute(delete(_T).where(*unwanted, of_key))


def _again(conn: Connection, ended_by: Mapping[str, str]) -> list[tuple[str, str]]:
    by_task: dict[str, list[Placed]] = {id_: [] for id_ in ended_by}
    for row in conn.execute(_PLACED.where(_T.task_id.in_(ended_by))) if ended_by else ():
        by_task[row.task_id].append(Placed(*row))
    return [(id_, key) for id_, entries in by_task.items() for key in tried_again(ended_by[id_], entries)]


def copy(tx: Tx, from_task: str, to_task: str, before: str | None = None) -> None:
    """Copy finished entries to another task (a retry of a failed run pays for nothing twice).

    `before`: only those that began before the entry of this key, without the steps that it is inside of: what the
    journal would have if the run had been cut off there.
    """
    own: dict[str, Any] = {"task_id": literal(to_task), "attempt": literal(0)}
    columns = [own.get(column.name, column) for column in _T.__table__.c]
    kept = [key for _, key in _caught(tx.conn, [from_task])] if _failed(tx.conn, [from_task]) else []
    ended = or_(_T.state == "done", _T.key.in_(kept)) if kept else _T.state == "done"
    copied = select(*columns).where(_T.task_id == from_task, ended)
    if before is not None:
        placed = [Placed(*row) for row in tx.conn.execute(_PLACED.where(_T.task_id == from_task))]
        cut = next(entry.pos for entry in placed if entry.key == before)
        copied = copied.where(_T.pos < cut, _T.key.not_in(enclosing(before, placed)))
    tx.conn.execute(insert(_T).from_select([column.name for column in _T.__table__.c], copied))


_PLACED = select(_T.task_id, _T.key, _T.pos, _T.detail, _T.state, _T.kind, _T.effect)


def _failed(conn: Connection, task_ids: Sequence[str]) -> bool:
    query = select(literal(1)).where(_T.task_id.in_(task_ids), _T.state == "failed").limit(1)
    return conn.execute(query).first() is not None


def _caught(conn: Connection, task_ids: Sequence[str]) -> list[tuple[str, str]]:
    query = _PLACED.where(_T.task_id.in_(task_ids))
    return caught(Placed(*row) for row in conn.execute(query))
