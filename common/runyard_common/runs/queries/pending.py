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
    false,
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
_A: Final = runs.WorkerAgent.__table__.c
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


@dataclass(frozen=True, slots=True)
class Having:
    """A worker, and the Python agents (name@version) that it can run; None: all. `carried_on` are those that it runs
    besides, while no worker has the code of their version. `dedicated`: it runs nothing else, no declared agent."""

    worker_id: str
    agents: Sequence[str] | None = None
    carried_on: Sequence[str] = ()
    dedicated: bool = False

    @property
    def _has_rows(self) -> bool:
        return self.agents is not None and len(self.agents) > workers.MANY_AGENTS

    @property
    def count(self) -> int | None:
        """How many of them a statement names. Where it looks at the worker's rows for its own: `_ROWS`, and one less
        for each that it names besides."""
        if self.agents is None:
            return None
        if self._has_rows:
            return _ROWS - len(self.carried_on)
        return len(self.agents) + len(self.carried_on)

    @property
    def kind(self) -> tuple[int | None, bool]:
        """What a statement depends on: workers of a kind share it."""
        return self.count, self.dedicated

    @property
    def parameters(self) -> dict[str, str]:
        """Of `_next`: one for each agent, as a worker has the same ones each time."""
        own = {"worker": self.worker_id} if self._has_rows else {}
        named = [*(() if self._has_rows else self.agents or ()), *self.carried_on]
        return own | {f"having_{place}": agent for place, agent in enumerate(named)}


_ROWS: Final = -1


def look(tx: Tx, slots: int, having: Having) -> Look | None:
    """The lanes with work, none for a worker that drains; None: it may not claim, as it was declared lost.

    On PostgreSQL the tasks come in the same round trip where only one lane has work.
    """
    if not tx.db.is_postgres:
        allowed = workers.may_claim(tx, having.worker_id)
        return None if allowed is None else Look(lanes.window(tx.conn) if allowed else lanes.NOTHING)
    asked: dict[str, Any] = {"worker": having.worker_id, "slots": slots, "after": None, "most": lanes.MOST}
    found = _looked(*having.kind).all(tx.conn, asked | having.parameters)
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
def _looked(agents: int | None, dedicated: bool) -> PreparedStatement:
    return PreparedStatement(lambda postgres: _look(agents, dedicated))


def _look(agents: int | None, dedicated: bool) -> Select[Any]:
    """The worker, which is kept from being declared lost, each lane with work, and the next tasks of an only lane."""
    w = runs.Worker.__table__.c
    alive = select(w.id, w.draining).where(w.id == bindparam("worker"), w.lost.is_(False))
    worker = alive.with_for_update(read=True).subquery("worker")
    lane = lanes.WINDOW.subquery("lane")
    # A function of the row, so that the database does not look for tasks before it knows how many lanes there are.
    only = _next(_T, [*tasks.CLAIMED, LISTENED], lane.c.in_lane, agents, dedicated).where(lane.c.lanes == 1)
    found = only.limit(bindparam("slots")).with_for_update(skip_locked=True).lateral("found")
    any_ = _next(_T, [_T.id], lane.c.in_lane, agents, dedicated).where(lane.c.lanes == 1)
    any_ = any_.limit(bindparam("slots"))
    counted = select(func.count().label("left")).select_from(any_.correlate(lane).subquery("any"))
    left = counted.correlate(lane).lateral("counted")
    joined = (
        worker.outerjoin(lane, worker.c.draining.is_(False)).outerjoin(left, true()).outerjoin(found, true())
    )
    return select(*lane.c, left.c.left, *found.c).select_from(joined)


def claimable(tx: Tx, turns: Mapping[str, int], having: Having) -> list[tuple[Task, bool]]:
    """The next tasks of each of these lanes, as many as it has turns at least, locked, and whether their organisations
    may have endpoints. Those another worker is claiming are skipped. Large inputs are left out: see `with_input`."""
    if not turns:
        return []
    asked_lanes, counts = list(turns), list(turns.values())
    if tx.db.is_postgres:
        asked: dict[str, Any] = {"lanes": asked_lanes, "counts": counts}
    else:
        asked = {"lanes": dump(asked_lanes), "most": max(counts)}
    found = _claimable(*having.kind).all(tx.conn, asked | having.parameters)
    return [(tasks.task(row, tasks.CLAIMED_NAMES), getattr(row, "listened", True)) for row in found]


@functools.cache
def _claimable(agents: int | None, dedicated: bool) -> PreparedStatement:
    return PreparedStatement(lambda postgres: (_locked if postgres else _first)(agents, dedicated))


def _locked(agents: int | None, dedicated: bool) -> Select[Any]:
    """PostgreSQL: a look into the index for each lane. `agents`: only for so many."""
    asked = func.unnest(bindparam("lanes", type_=ARRAY(Text)), bindparam("counts", type_=ARRAY(Integer)))
    turn = asked.table_valued("lane", "count", with_ordinality="place", name="turn").render_derived()
    mine = _next(_T, [*tasks.CLAIMED, LISTENED], turn.c.lane, agents, dedicated).limit(turn.c.count)
    found = mine.with_for_update(skip_locked=True).lateral("found")
    return select(*found.c).select_from(turn.join(found, true())).order_by(turn.c.place)


def _first(agents: int | None, dedicated: bool) -> Select[Any]:
    """SQLite has one writer and no LATERAL: rows by the ids that the index gives, one count for all lanes."""
    turn = func.json_each(bindparam("lanes")).table_valued("key", "value", name="turn")
    first = runs.Task.__table__.alias("first")
    ids = (
        _next(first.c, [first.c.id], turn.c.value, agents, dedicated).limit(bindparam("most")).correlate(turn)
    )
    found = select(*tasks.CLAIMED).select_from(turn.join(runs.Task.__table__, _T.id.in_(ids)))
    return found.order_by(turn.c.key, _T.resume, _T.priority, _T.id)


def _next(c: Any, columns: Sequence[Any], lane: Any, agents: int | None, dedicated: bool) -> Select[Any]:
    query = select(*columns).where(c.status == _PENDING, c.lane == lane)
    if agents is not None:
        query = query.where(_runnable(c, agents, dedicated))
    return query.order_by(c.resume, c.priority, c.id)


def _runnable(c: Any, agents: int, dedicated: bool) -> ColumnElement[bool]:
    """Tasks for any worker, unless this one is `dedicated`, and those that require an agent which the worker has."""
    for_any: ColumnElement[bool] = false() if dedicated else c.required_agent.is_(None)
    has_rows = agents <= _ROWS
    named: list[Any] = [
        bindparam(f"having_{place}") for place in range(_ROWS - agents if has_rows else agents)
    ]
    ways = [for_any, *([c.required_agent.in_(named)] if named else ())]
    if has_rows:
        # A value, and not EXISTS: PostgreSQL would read all of the worker's agents for that.
        its: Select[Any] = select(literal_column("1")).where(_A.worker_id == bindparam("worker"))
        found = its.where(_A.agent == c.required_agent).correlate(c.required_agent.table).scalar_subquery()
        ways.append(found == literal_column("1"))
    return or_(*ways) if len(ways) > 1 else for_any


def any_left(conn: Connection, but: Sequence[str], having: Having) -> bool:
    """Whether a task may be claimed besides these, also one that another transaction has locked."""
    query = select(_T.id).where(_T.status == _PENDING, _T.id.not_in(but)).limit(1)
    if having.count is not None:
        query = query.where(_runnable(_T, having.count, having.dedicated))
    return conn.execute(query, having.parameters).first() is not None


def started_agents(conn: Connection, org_id: str) -> list[str]:
    """The Python agents (name@version) that an organisation's unfinished tasks require which no worker runs now."""
    return list(conn.execute(select(_T.required_agent).where(*_unfinished(org_id)).distinct()).scalars())


def requiring(conn: Connection, org_id: str, agents: Sequence[str], at_most: int) -> list[tuple[str, str]]:
    """Such tasks that require one of these agents, the newest first: id, name@version."""
    query = select(_T.id, _T.required_agent).where(*_unfinished(org_id), _T.required_agent.in_(agents))
    return [(row.id, row.required_agent) for row in conn.execute(query.order_by(_T.id.desc()).limit(at_most))]


def _unfinished(org_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        _T.org_id == org_id,
        _T.finished_at.is_(None),
        _T.status != "running",
        _T.required_agent.is_not(None),
    )


def by_agent(conn: Connection, org_id: str | None = None) -> dict[str, int]:
    """How many pending tasks, of an organisation or of all, require each Python agent (name@version)."""
    query = select(_T.required_agent, func.count().label("n"))
    query = query.where(_T.status == _PENDING, _T.required_agent.is_not(None)).group_by(_T.required_agent)
    if (
        org_id is not None
    ):  # as the partial index of the unfinished has it: SQLite would read all that there ever were
        query = query.where(_T.org_id == org_id, _T.finished_at.is_(None))
    return {row.required_agent: row.n for row in conn.execute(query)}
