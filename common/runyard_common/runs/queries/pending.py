"""Pending tasks: which of them a worker may claim, and what they wait for."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    true,
)

from runyard_common.database.columns import dump
from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import lanes, tasks, workers
from runyard_common.runs.queries.lanes import Window
from runyard_common.runs.rules.tasks import Task
from runyard_common.tables import query as runs
from runyard_common.webhooks.queries.endpoints import LISTENED

_T: Final = runs.Task.__table__.c
#: Written out: a database that plans a statement once cannot see in a parameter which partial index serves.
_PENDING: Final[Any] = literal_column("'pending'")


@dataclass(frozen=True, slots=True)
class Look:
    """What a claim sees first: the lanes with work and, where one statement gave them, the tasks that it takes.

    `tasks` are locked; None where more than one lane has work, or none. `listened` are those whose organisations have
    endpoints. `left` is how many pending tasks there are that
    the claim's slots would suffice for, also ones that other transactions have locked.
    """

    window: Window
    tasks: list[Task] | None = None
    listened: frozenset[str] = frozenset()
    left: int | None = None


def look(tx: Tx, worker_id: str, slots: int, having: Sequence[str] | None = None) -> Look | None:
    """The lanes with work, for a worker that may claim; None: it may not, as it was declared lost.

    On PostgreSQL the tasks come in the same round trip where only one lane has work. `having` as for `claimable`.
    """
    if not tx.db.is_postgres:
        return Look(lanes.window(tx.conn)) if workers.alive(tx, worker_id) else None
    asked: dict[str, Any] = {"worker": worker_id, "slots": slots, "after": None, "most": lanes.MOST}
    asked |= _having(having)
    found = _looked(None if having is None else len(having)).all(tx.conn, asked)
    if not found:
        return None
    with_work = [row for row in found if row.in_lane is not None]
    window = lanes.windowed(with_work, lanes.MOST)
    if not window.whole or len(window.clocks) != 1:
        return Look(window)
    claimed = [row for row in with_work if row.id is not None]
    listened = frozenset(row.id for row in claimed if row.listened)
    only = [tasks.task(row, tasks.CLAIMED_NAMES) for row in claimed]
    return Look(window, only, listened, found[0].left)


@functools.cache
def _looked(agents: int | None) -> PreparedStatement:
    return PreparedStatement(lambda postgres: _look(agents))


def _look(agents: int | None) -> Select[Any]:
    """The worker, which is kept from being declared lost, each lane with work, and the next tasks of an only lane."""
    w = runs.Worker.__table__.c
    alive = select(w.id).where(w.id == bindparam("worker"), w.lost.is_(False)).with_for_update(read=True)
    worker, lane = alive.subquery("worker"), lanes.WINDOW.subquery("lane")
    # A function of the row, so that the database does not look for tasks before it knows how many lanes there are.
    only = _next(_T, [*tasks.CLAIMED, LISTENED], lane.c.in_lane, agents).where(lane.c.lanes == 1)
    found = only.limit(bindparam("slots")).with_for_update(skip_locked=True).lateral("found")
    any_ = _next(_T, [_T.id], lane.c.in_lane, agents).where(lane.c.lanes == 1).limit(bindparam("slots"))
    counted = select(func.count().label("left")).select_from(any_.correlate(lane).subquery("any"))
    left = counted.correlate(lane).lateral("counted")
    joined = worker.outerjoin(lane, true()).outerjoin(left, true()).outerjoin(found, true())
    return select(*lane.c, left.c.left, *found.c).select_from(joined)


def claimable(
    tx: Tx, turns: Mapping[str, int], having: Sequence[str] | None = None
) -> list[tuple[Task, bool]]:
    """The next tasks of each of these lanes, as many as it has turns at least, locked, and whether their organisations
    may have endpoints. Those another worker is claiming are skipped. Large inputs are left out: see `with_input`.
    `having` are the Python agents (name@version) that can be run; None: all."""
    if not turns:
        return []
    asked_lanes, counts = list(turns), list(turns.values())
    if tx.db.is_postgres:
        asked: dict[str, Any] = {"lanes": asked_lanes, "counts": counts}
    else:
        asked = {"lanes": dump(asked_lanes), "most": max(counts)}
    asked |= _having(having)
    statement = _claimable(None if having is None else len(having))
    found = statement.all(tx.conn, asked)
    return [(tasks.task(row, tasks.CLAIMED_NAMES), getattr(row, "listened", True)) for row in found]


@functools.cache
def _claimable(agents: int | None) -> PreparedStatement:
    return PreparedStatement(lambda postgres: (_locked if postgres else _first)(agents))


def _locked(agents: int | None) -> Select[Any]:
    """PostgreSQL: a look into the index for each lane. `agents`: only for so many."""
    asked = func.unnest(bindparam("lanes", type_=ARRAY(Text)), bindparam("counts", type_=ARRAY(Integer)))
    turn = asked.table_valued("lane", "count", with_ordinality="place", name="turn").render_derived()
    mine = _next(_T, [*tasks.CLAIMED, LISTENED], turn.c.lane, agents).limit(turn.c.count)
    found = mine.with_for_update(skip_locked=True).lateral("found")
    return select(*found.c).select_from(turn.join(found, true())).order_by(turn.c.place)


def _first(agents: int | None) -> Select[Any]:
    """SQLite has one writer and no LATERAL: rows by the ids that the index gives, one count for all lanes."""
    turn = func.json_each(bindparam("lanes")).table_valued("key", "value", name="turn")
    first = runs.Task.__table__.alias("first")
    ids = _next(first.c, [first.c.id], turn.c.value, agents).limit(bindparam("most")).correlate(turn)
    found = select(*tasks.CLAIMED).select_from(turn.join(runs.Task.__table__, _T.id.in_(ids)))
    return found.order_by(turn.c.key, _T.resume, _T.priority, _T.id)


def _next(c: Any, columns: Sequence[Any], lane: Any, agents: int | None) -> Select[Any]:
    query = select(*columns).where(c.status == _PENDING, c.lane == lane)
    if agents is not None:
        query = query.where(_runnable(c, [bindparam(f"having_{place}") for place in range(agents)]))
    return query.order_by(c.resume, c.priority, c.id)


def _having(agents: Sequence[str] | None) -> dict[str, str]:
    """Parameters of `_next`: one for each agent, as a worker has the same ones each time."""
    return {f"having_{place}": agent for place, agent in enumerate(agents or ())}


def _runnable(c: Any, having: Sequence[Any]) -> ColumnElement[bool]:
    """Tasks for any worker, and those that require an agent of `having`."""
    for_any: ColumnElement[bool] = c.required_agent.is_(None)
    return or_(for_any, c.required_agent.in_(having)) if having else for_any


def any_left(conn: Connection, but: Sequence[str], having: Sequence[str] | None = None) -> bool:
    """Whether a task may be claimed besides these, also one that another transaction has locked."""
    query = select(_T.id).where(_T.status == _PENDING, _T.id.not_in(but)).limit(1)
    if having is not None:
        query = query.where(_runnable(_T, having))
    return conn.execute(query).first() is not None


def by_agent(conn: Connection, org_id: str | None = None) -> dict[str, int]:
    """How many pending tasks, of an organisation or of all, require each Python agent (name@version)."""
    query = select(_T.required_agent, func.count().label("n"))
    query = query.where(_T.status == _PENDING, _T.required_agent.is_not(None)).group_by(_T.required_agent)
    if (
        org_id is not None
    ):  # as the partial index of the unfinished has it: SQLite would read all that there ever were
        query = query.where(_T.org_id == org_id, _T.finished_at.is_(None))
    return {row.required_agent: row.n for row in conn.execute(query)}
