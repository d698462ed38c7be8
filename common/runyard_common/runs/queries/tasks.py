"""Task rows: insert, read, page, and find what may be claimed or admitted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    Text,
    bindparam,
    case,
    func,
    literal,
    select,
    tuple_,
    type_coerce,
    union_all,
)

from runyard_common.database import pages, rows
from runyard_common.database.pages import Page
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import CommittedEvent, Tx
from runyard_common.identity.queries import config_versions
from runyard_common.runs.queries import event_log, traced
from runyard_common.runs.queries.filters import Filter, filtered, may_fit
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Fence, OwnTask, Task
from runyard_common.tables import query as runs
from runyard_common.values.json_text import LARGE, JsonText

_T = runs.Task


#: JSON columns as text, which a `Task` parses on first use.
_TEXTS: dict[str, ColumnElement[Any]] = {
    f"stored_{name}": type_coerce(getattr(_T, name), Text).label(f"stored_{name}")
    for name in ("input", "output")
}
_SPECIAL = _TEXTS | {"blocked_by": _T.blocked_by.label("blocked_by")}
_COLUMNS: list[Any] = [_SPECIAL[f.name] if f.name in _SPECIAL else getattr(_T, f.name) for f in fields(Task)]
_MOST_IDS = 500
#: Tasks that a search by title looks at before it answers, and that a total counts.
SEARCHED, COUNTED = 20_000, 100_000
LIGHT = [c for c in _COLUMNS if c.key not in (*_TEXTS, "secrets")]
#: What a claim reads: a large input is read by who prepares the run, not in the transaction of the claim.
CLAIMED = [
    *(column for column in LIGHT if column.key != "retry_policy"),
    _T.secrets,
    case((pages.byte_length(_T.input) <= LARGE, type_coerce(_T.input, Text)), else_="").label("stored_input"),
]
CLAIMED_NAMES = tuple(str(column.key) for column in CLAIMED)
#: Columns of a task without input and output that may still be large.
_NOTED = ("error", "meta")


def task(row: Any, names: Sequence[str] | None = None) -> Task:
    """A task from its row; `names` are its columns where the row has others too."""
    given = zip(row._fields, row, strict=True)
    values = dict(given) if names is None else {name: getattr(row, name) for name in names}
    values["status"] = Status(values["status"])
    for name in _TEXTS:
        if isinstance(text := values.get(name), str):
            values[name] = JsonText(text)
    return Task(**values)


_STORED = {"stored_input": "input", "stored_output": "output"}
_WRITTEN = [(field.name, _STORED.get(field.name, field.name)) for field in fields(Task)]
_INSERT = PreparedStatement(lambda postgres: rows.insert_of(_T, (column for _, column in _WRITTEN)))


def insert_many(tx: Tx, tasks: Sequence[Task], first_events: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Insert tasks, each with its first event (type, data)."""
    _INSERT.send(tx.conn, *map(_values, tasks))
    committed = [
        CommittedEvent(one.org_id, one.id, 1, type_, 0, data | {"status": one.status.value}, tx.now)
        for one, (type_, data) in zip(tasks, first_events, strict=True)
    ]
    event_log.write(tx, committed)
    ready = [one for one in tasks if one.status is Status.PENDING]
    tx.woken += len(ready)
    traced.note_submitted(tx, ready)


def _values(task: Task) -> dict[str, Any]:
    values = {column: getattr(task, name) for name, column in _WRITTEN}
    values["status"] = task.status.value
    return values


def get(scope: OrgScope, task_id: str) -> Task | None:
    """One task of an organisation, or None: another organisation's looks the same as none."""
    row = scope.conn.execute(select(*_COLUMNS).where(_T.id == task_id, _T.org_id == scope.org_id)).first()
    return task(row) if row else None


def small_inputs(scope: OrgScope, task_ids: Collection[str], most_bytes: int) -> dict[str, Any]:
    """The inputs, of at most so many bytes each, of these tasks of an organisation, by id."""
    chosen = (_T.id.in_(list(task_ids)), _T.org_id == scope.org_id, pages.byte_length(_T.input) <= most_bytes)
    query = select(_T.id, _T.input).where(*chosen)
    return {row.id: row.input for row in scope.conn.execute(query)} if task_ids else {}


def by_ids(scope: OrgScope, task_ids: Iterable[str]) -> dict[str, Task]:
    """Tasks of an organisation by id, without inputs and outputs."""
    query = select(*LIGHT).where(_T.id.in_(list(task_ids)), _T.org_id == scope.org_id)
    return {row.id: task(row) for row in scope.conn.execute(query)}


#: Put together once, as each read of a task needs it.
_OF_ORGANISATIONS = select(*_COLUMNS, config_versions.number_of(_T.org_id).label("configured_at")).where(
    _T.id.in_(bindparam("ids", expanding=True))
)
_NAMES = tuple(f.name for f in fields(Task))


def of_organisations(conn: Connection, asked: Collection[OwnTask]) -> dict[OwnTask, tuple[Task, int]]:
    """Whole tasks of several organisations, each with the number of its organisation's configuration."""
    found = conn.execute(_OF_ORGANISATIONS, {"ids": list({own.task_id for own in asked})})
    by_own = {OwnTask(row.org_id, row.id): row for row in found}
    return {
        own: (task(row, _NAMES), row.configured_at) for own in asked if (row := by_own.get(own)) is not None
    }


def load(conn: Connection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Whole tasks by id, for the server itself (no organisation asked)."""
    found = conn.execute(select(*_COLUMNS).where(_T.id.in_(list(task_ids))))
    return {row.id: task(row) for row in found}


def inputs(conn: Connection, task_ids: Iterable[str]) -> dict[str, JsonText]:
    """The inputs of tasks by id, for the server itself (no organisation asked)."""
    found = conn.execute(select(_T.id, _TEXTS["stored_input"]).where(_T.id.in_(list(task_ids))))
    return {row.id: JsonText(row.stored_input) for row in found if row.stored_input is not None}


def with_input(conn: Connection, claimed: Task) -> Task:
    """A claimed task with its input, read from its text, if that was left out of the claim."""
    stored = claimed.stored_input
    if not (isinstance(stored, JsonText) and stored.text == ""):
        return claimed
    found = inputs(conn, [claimed.id]).get(claimed.id)
    return replace(claimed, stored_input=None if found is None else found.value)


@dataclass(frozen=True, slots=True)
class Place:
    """How far a task has come, which is all that following it takes to begin."""

    status: Status
    last_seq: int
    configured_at: int  # the number of its organisation's configuration


_PLACES = select(
    _T.id, _T.org_id, _T.status, _T.last_seq, config_versions.number_of(_T.org_id).label("configured_at")
).where(_T.id.in_(bindparam("ids", expanding=True)))


def versions(scope: OrgScope, task_ids: Collection[str]) -> dict[str, str]:
    """The versions of their agents that these tasks of an organisation run, by task."""
    found: dict[str, str] = {}
    ids = list(task_ids)
    for start in range(0, len(ids), _MOST_IDS):
        chosen = (_T.id.in_(ids[start : start + _MOST_IDS]), _T.org_id == scope.org_id)
        found |= {
            row.id: row.version_id for row in scope.conn.execute(select(_T.id, _T.version_id).where(*chosen))
        }
    return found


def places(conn: Connection, asked: Collection[OwnTask]) -> dict[OwnTask, Place]:
    """How far these tasks of several organisations have come."""
    found = conn.execute(_PLACES, {"ids": list({own.task_id for own in asked})})
    return {
        OwnTask(row.org_id, row.id): Place(Status(row.status), row.last_seq, row.configured_at)
        for row in found
    }


def depth(conn: Connection, task_id: str, most: int) -> int:
    """How many runs there are from this one up to the one without a parent, itself included; `most` at most."""
    up = select(_T.parent_id, literal(1).label("n")).where(_T.id == task_id).cte("up", recursive=True)
    up = up.union_all(select(_T.parent_id, up.c.n + 1).where(_T.id == up.c.parent_id, up.c.n < most))
    return int(conn.execute(select(func.max(up.c.n))).scalar_one() or 0)


def retried_as(conn: Connection, among: Iterable[Task]) -> dict[str, str]:
    """The newest task that repeats each of those among these that failed or were stopped, if one does, by task."""
    ended = [one.id for one in among if one.final_error]
    again = (
        select(_T.retry_of, func.max(_T.id).label("id")).where(_T.retry_of.in_(ended)).group_by(_T.retry_of)
    )
    return {row.retry_of: row.id for row in conn.execute(again)} if ended else {}


def page(scope: OrgScope, wanted: Filter, limit: int, before: str | None = None) -> list[Task]:
    """Tasks of an organisation, newest first, older than the id `before`; without inputs and outputs."""
    found: list[Task] = []
    while True:
        rows_ = scope.conn.execute(_newest(LIGHT, scope, wanted, limit, before)).all()
        found += [task(row) for row in rows_ if wanted.fits(row.title)]
        if len(rows_) < limit or len(found) >= limit:
            return found[:limit]
        before = rows_[-1].id


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found so far; `end` is the id behind which it goes on, None once it has seen all."""

    tasks: list[Task]
    end: str | None = None


def search(scope: OrgScope, wanted: Filter, limit: int, before: str | None = None) -> Found:
    """As `page`, for a filter by a part of the title, which no index finds: it looks at `SEARCHED` tasks at most."""
    among = _newest([_T.id, _T.title], scope, replace(wanted, title=None), SEARCHED, before).subquery()
    candidates = select(among).where(may_fit(among.c.title, wanted.title or "")).order_by(among.c.id.desc())
    ids: list[str] = []
    # Titles in ASCII are judged by the database: the first candidates are enough, unless others have other letters.
    for most in (2 * limit + 1, SEARCHED):
        looked_at = scope.conn.execute(candidates.limit(most)).all()
        ids = [row.id for row in looked_at if wanted.fits(row.title)][: limit + 1]
        if len(ids) > limit or len(looked_at) < most:
            break
    found = sorted(by_ids(scope, ids).values(), key=lambda one: one.id, reverse=True)
    if len(ids) > limit:
        return Found(found[:limit], ids[limit - 1])
    seen, last = scope.conn.execute(select(func.count(), func.min(among.c.id))).one()
    return Found(found, last if seen == SEARCHED else None)


def failed_page(scope: OrgScope, limit: int, before: str | None = None) -> Page[Task]:
    """As `page`, those that failed, with why: fewer than `limit`, and `more`, where that takes much room."""
    query = _newest(LIGHT, scope, Filter(statuses=(Status.FAILED,)), limit, before)
    found = pages.bounded(scope.conn, query, "id", _NOTED)
    return Page((task(row) for row in found), found.more)


def whole_page(
    scope: OrgScope,
    wanted: Filter,
    limit: int,
    offset: int = 0,
    most_bytes: int | None = None,
) -> Page[Task]:
    """As `page`, with inputs and outputs: it ends early where these have more than `most_bytes` together, behind the
    first at the earliest. None of the others is read. Of no filter by title."""
    query = _newest(_COLUMNS, scope, wanted, limit, offset=offset)
    found = pages.bounded(scope.conn, query, "id", (*_TEXTS, "secrets", *_NOTED), most_bytes)
    return Page((task(row) for row in found), found.more)


def _newest(
    columns: Sequence[Any],
    scope: OrgScope,
    wanted: Filter,
    limit: int,
    before: str | None = None,
    offset: int = 0,
) -> Select[Any]:
    """The page of each status, which an index gives in order, and of these the newest."""
    each = [replace(wanted, statuses=(status,)) for status in set(wanted.statuses or ())]
    if len(each) < 2:
        if offset == 0:
            return _ordered(columns, scope, wanted, before).limit(limit)
        # What is skipped is counted in an index, as far as that has it all.
        skipped = _ordered([_T.id], scope, wanted, before).limit(limit).offset(offset)
        return select(*columns).where(_T.id.in_(skipped)).order_by(_T.id.desc())
    newest = [_ordered([_T.id], scope, one, before).limit(limit + offset).subquery() for one in each]
    ids = union_all(*(select(one.c.id) for one in newest))
    return select(*columns).where(_T.id.in_(ids)).order_by(_T.id.desc()).limit(limit).offset(offset)


def _ordered(columns: Sequence[Any], scope: OrgScope, wanted: Filter, before: str | None) -> Select[Any]:
    query = filtered(select(*columns), scope, wanted).order_by(_T.id.desc())
    return query if before is None else query.where(_T.id < before)


def light(conn: Connection, task_ids: Iterable[str]) -> dict[str, Task]:
    """Tasks by id without inputs and outputs, for the server itself (no organisation asked)."""
    found = conn.execute(select(*LIGHT).where(_T.id.in_(list(task_ids))))
    return {row.id: task(row) for row in found}


def count(scope: OrgScope, wanted: Filter, at_most: int = COUNTED) -> int:
    """How many tasks of an organisation match, counted up to `at_most`; of no filter by title."""
    counted = filtered(select(_T.id), scope, wanted).limit(at_most).subquery()
    return int(scope.conn.execute(select(func.count()).select_from(counted)).scalar_one())


def position(conn: Connection, waiting: Task) -> int:
    """How many tasks of its lane are before this queued or pending one, plus one."""
    mine = [_T.status == waiting.status.value, _T.lane == waiting.lane]
    if waiting.blocked_by is not None:
        mine.append(_T.blocked_by == waiting.blocked_by)
    before = [_T.resume == waiting.resume, tuple_(_T.priority, _T.id) < (waiting.priority, waiting.id)]
    ahead = [select(func.count()).where(*mine, *before).scalar_subquery()]
    if waiting.resume:  # runs that were under way are all before
        ahead.append(select(func.count()).where(*mine, _T.resume == 0).scalar_subquery())
    return sum(conn.execute(select(*ahead)).one()) + 1


def waiting(org_id: str, at_most: int) -> ScalarSelect[int]:
    """How many tasks of an organisation wait to start, counted up to `at_most`: an expression."""
    mine = (_T.org_id == org_id, _T.finished_at.is_(None), _T.status.in_(["pending", "queued"]))
    counted = select(_T.id).where(*mine).limit(at_most).subquery()
    return select(func.count()).select_from(counted).scalar_subquery()


def backlog(conn: Connection, org_id: str, at_most: int) -> int:
    """As `waiting`, looked up."""
    return int(conn.execute(select(waiting(org_id, at_most))).scalar_one())


def owned(conn: Connection, worker_id: str) -> dict[str, Fence]:
    """Every run this worker holds: task id → the claim that it holds it by."""
    query = select(*_FENCED).where(_T.status == "running", _T.lease_owner == worker_id)
    return {row.id: Fence(row.attempt, row.claim_token) for row in conn.execute(query)}


def ownerless(conn: Connection, limit: int) -> dict[str, Fence]:
    """Runs whose worker has no row: nothing would ever look for them."""
    owner = select(runs.Worker.id).where(runs.Worker.id == _T.lease_owner)
    query = select(*_FENCED).where(_T.status == "running", ~owner.exists()).limit(limit)
    return {row.id: Fence(row.attempt, row.claim_token) for row in conn.execute(query)}


_FENCED = (_T.id, _T.attempt, _T.claim_token)


def children(conn: Connection, parent_ids: Sequence[str]) -> list[str]:
    """The unfinished children of these tasks."""
    query = select(_T.id).where(_T.parent_id.in_(parent_ids), _T.finished_at.is_(None))
    return list(conn.execute(query).scalars())


def recent_durations(conn: Connection, agent_id: str, limit: int = 20, among: int = 500) -> list[float]:
    """Run times in seconds of the last completed tasks of an agent, `among` its newest: the basis of estimates."""
    newest = select(_T.id).where(_T.agent_id == agent_id).order_by(_T.id.desc()).limit(among).subquery()
    query = (
        select(_T.finished_at - _T.started_at)
        .where(_T.id.in_(select(newest.c.id)), _T.status == "completed", _T.started_at.is_not(None))
        .order_by(_T.id.desc())
        .limit(limit)
    )
    return [float(value) for value in conn.execute(query).scalars()]
