"""Rows of usage: one per model turn, added to its task's totals in the same transaction; sums of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, distinct, exists, func, insert, null, select, update

from runyard_common.database import rows
from runyard_common.database.engine import LATER
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import transitions
from runyard_common.runs.queries.transitions import COLUMNS, head
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Fence, Head
from runyard_common.runs.rules.tasks import Task as Run
from runyard_common.tables.query import (
    Agent,
    ApiKey,
    JournalEntry,
    Message,
    Organisation,
    Question,
    Task,
    Turn,
)

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")
# Put together once: every turn of every run needs them.
_LOCKED = (
    select(*COLUMNS, Task.usage, Task.cost_micros)
    .where(Task.id.in_(bindparam("ids", expanding=True)))
    .order_by(Task.id)
    .with_for_update()
)
_INSERT = insert(Turn)
_ADD = (
    update(Task)
    .where(Task.id == bindparam("t"))
    .values(
        last_seq=bindparam("seq"),
        usage=bindparam("u", type_=Task.__table__.c.usage.type),
        cost_micros=bindparam("c"),
    )
    .execution_options(**LATER)
)
_SPEND = (
    update(Organisation)
    .where(Organisation.id == bindparam("org"), Organisation.balance_micros.is_not(None))
    .values(balance_micros=Organisation.balance_micros - bindparam("cost"))
    .execution_options(**LATER)
)
_BEFORE = (
    select(
        Task.id,
        Task.status,
        Task.attempt,
        Task.claim_token,
        Task.cost_micros,
        Organisation.balance_micros,
        exists().where(Message.task_id == Task.id, Message.unread.is_(True)).label("unread"),
        exists()
        .where(JournalEntry.task_id == Task.id, JournalEntry.key.in_(bindparam("keys", expanding=True)))
        .label("journaled"),
    )
    .join(Organisation.__table__, Organisation.id == Task.org_id, isouter=True)
    .where(Task.id.in_(bindparam("ids", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """What a model turn used. `cost_micros` is in millionths of a USD."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """A model turn that is on record: its task after its events, its journal key, and what it used."""

    head: Head
    key: str
    turn: ModelTurn


@dataclass(frozen=True, slots=True)
class Totals:
    """What a task has used."""

    usage: dict[str, Any]
    cost_micros: int


def lock(tx: Tx, task_ids: Iterable[str]) -> tuple[dict[str, Head], dict[str, Totals]]:
    """Lock these tasks as `transitions.lock` does; their heads and totals."""
    ids = set(task_ids)
    if tx.upcoming - ids:
        transitions.lock(tx, ids)  # in one order with those of the transaction's other commands
    found = tx.conn.execute(_LOCKED, {"ids": sorted(ids)}).all()
    heads = {row.id: head(row) for row in found}
    transitions.note_locked(tx, heads)
    return heads, {row.id: Totals(row.usage or {}, row.cost_micros) for row in found}


def count(tx: Tx, turns: Sequence[Counted], totals: dict[str, Totals]) -> None:
    """Record model turns of locked tasks, and add them to the tasks, which get the numbers of their last events."""
    if not turns:
        return
    tx.conn.execute(_INSERT, [_row(tx, one) for one in turns])
    added = dict(totals)
    for one in turns:
        added[one.head.id] = _added(added[one.head.id], one.turn)
    last = {one.head.id: one.head.last_seq for one in turns}
    tx.conn.execute(
        _ADD,
        [
            {"t": id_, "seq": seq, "u": added[id_].usage, "c": added[id_].cost_micros}
            for id_, seq in sorted(last.items())
        ],
    )
    _spend(tx, turns)


def _row(tx: Tx, counted: Counted) -> dict[str, Any]:
    head = counted.head
    return {
        "task_id": head.id,
        "key": counted.key,
        "org_id": head.org_id,
        "agent_id": head.agent_id,
        "session_id": head.session_id,
        "key_id": head.key_id,
        "at": tx.now,
        **rows.values(counted.turn),
    }


def _added(totals: Totals, turn: ModelTurn) -> Totals:
    usage = totals.usage
    return Totals(
        {name: usage.get(name, 0) + getattr(turn, name) for name in _TOKENS}
        | {
            "total_tokens": usage.get("total_tokens", 0) + turn.input_tokens + turn.output_tokens,
            "turns": usage.get("turns", 0) + 1,
            "model": turn.model,
        },
        totals.cost_micros + turn.cost_micros,
    )


def _spend(tx: Tx, turns: Sequence[Counted]) -> None:
    """Subtract what was spent from the prepaid balances of the organisations that have one."""
    spent: Counter[str] = Counter()
    for one in turns:
        spent[one.head.org_id] += one.turn.cost_micros
    for org_id, cost in sorted(spent.items()):
        if cost:
            tx.conn.execute(_SPEND, {"org": org_id, "cost": cost})


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` (inclusive) until `until` (exclusive), in epoch seconds."""

    since: float
    until: float


_SUMS = (
    func.count().label("turns"),
    func.sum(Turn.input_tokens).label("input_tokens"),
    func.sum(Turn.output_tokens).label("output_tokens"),
    func.sum(Turn.cached_tokens).label("cached_tokens"),
    func.sum(Turn.cost_micros).label("cost_micros"),
    func.max(Turn.at).label("last_at"),
)
_BY = {
    "agent": (Turn.agent_id, Agent.id, Agent.name),
    "key": (Turn.key_id, ApiKey.id, ApiKey.name),
    "session": (Turn.session_id, None, None),
    "model": (Turn.model, None, None),
    "task": (Turn.task_id, None, None),
}


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Turns summed, with the id and name of what they are summed by."""

    turns: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost_micros: int | None
    last_at: float | None
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """How many runs have asked a model, and with how many tokens."""

    model: str
    runs: int
    tokens: int


def sums(scope: OrgScope, span: Span, by: str, limit: int) -> list[UsageSum]:
    """Turns summed by agent, key, session, model or task, with its id and name; the costliest first."""
    column, key, name = _BY[by]
    query = select(column.label("id"), *_SUMS).where(*_within(scope, span)).group_by(column)
    summed = (
        query.order_by(func.sum(Turn.cost_micros).desc(), func.count().desc(), column).limit(limit).subquery()
    )
    named = select(*summed.c, (null() if name is None else name).label("name"))
    if key is not None:
        named = named.outerjoin(key.table, key == summed.c.id)
    ordered = named.order_by(summed.c.cost_micros.desc(), summed.c.turns.desc(), summed.c.id)
    return rows.every(scope.conn, ordered, UsageSum)


def total(scope: OrgScope, span: Span) -> UsageSum:
    """All turns summed."""
    return UsageSum(**scope.conn.execute(select(*_SUMS).where(*_within(scope, span))).one()._mapping)


def _within(scope: OrgScope, span: Span) -> tuple[Any, ...]:
    return Turn.org_id == scope.org_id, Turn.at >= span.since, Turn.at < span.until


def forget_agent(tx: Tx, org_id: str, agent_id: str) -> int:
    """Delete the usage rows of an agent that is deleted itself; how many."""
    done = tx.conn.execute(delete(Turn).where(Turn.org_id == org_id, Turn.agent_id == agent_id))
    return int(done.rowcount)


@dataclass(frozen=True, slots=True)
class Spend:
    """Millionths of a USD: spent by the task, and left to its organisation (None: it has no balance)."""

    spent_micros: int
    balance_micros: int | None


@dataclass(frozen=True, slots=True)
class TaskBeforeTurn:
    """What decides whether and how a task's next turn begins."""

    fence: Fence | None  # of the claim that owns it; None: it does not run
    spend: Spend
    unread: bool  # it has messages that it has not read
    journaled: bool  # one of the given keys is on record, of this task or for another of the same call


def before_turns(tx: Tx, task_ids: Iterable[str], keys: Iterable[str]) -> dict[str, TaskBeforeTurn]:
    """The tasks as they are now, and whether their journals have one of these keys."""
    found = tx.conn.execute(_BEFORE, {"ids": list(task_ids), "keys": list(keys)})
    return {
        row.id: TaskBeforeTurn(
            Fence(row.attempt, row.claim_token) if row.status == Status.RUNNING else None,
            Spend(int(row.cost_micros), row.balance_micros),
            bool(row.unread),
            bool(row.journaled),
        )
        for row in found
    }


#: Runs of an agent that are counted to number one of them.
NUMBERED: Final = 100_000


def numbers(conn: Connection, runs: Sequence[Run]) -> dict[str, int]:
    """Each run's number among its agent's runs in the organisation, from 1, by task id; none beyond `NUMBERED`."""
    by_agent: dict[tuple[str, str], list[str]] = defaultdict(list)
    for run in runs:
        by_agent[run.org_id, run.agent_id].append(run.id)
    found: dict[str, int] = {}
    for (org_id, agent_id), ids in by_agent.items():
        counted, last = 0, ""
        for id_ in sorted(ids):
            mine = (Task.agent_id == agent_id, Task.org_id == org_id, Task.id > last, Task.id <= id_)
            before = select(Task.id).where(*mine).limit(NUMBERED + 1 - counted).subquery()
            counted += conn.execute(select(func.count()).select_from(before)).scalar_one()
            if counted > NUMBERED:
                break
            found[id_], last = counted, id_
    return found


def applications(conn: Connection, key_ids: Iterable[str]) -> dict[str, str | None]:
    """The application of each key that has one."""
    query = select(ApiKey.id, ApiKey.application_id).where(ApiKey.id.in_(set(key_ids)))
    return {row.id: row.application_id for row in conn.execute(query)}


#: Averages are taken over so many of an agent's newest runs.
RECENT: Final = 500


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """An agent's runs: how many, when the last began (epoch seconds), and of the newest ones the mean time
    to answer (seconds) and how many questions and reviews people were asked."""

    runs: int = 0
    last_at: float | None = None
    mean_s: float = 0.0
    asked: int = 0


def of_agents(scope: OrgScope, agent_ids: Iterable[str]) -> dict[str, AgentUsage]:
    """The usage of these agents by an organisation; one that was never run is left out."""
    query = (
        select(Task.agent_id, func.count().label("runs"), func.max(Task.id).label("last_id"))
        .where(Task.agent_id.in_(list(agent_ids)), Task.org_id == scope.org_id)
        .group_by(Task.agent_id)
    )
    found = {}
    for row in scope.conn.execute(query).all():
        last_at = scope.conn.execute(select(Task.created_at).where(Task.id == row.last_id)).scalar_one()
        found[row.agent_id] = AgentUsage(row.runs, last_at, *_recent(scope, row.agent_id))
    return found


def _recent(scope: OrgScope, agent_id: str) -> tuple[float, int]:
    newest = (
        select(Task.id, Task.created_at, Task.finished_at, Task.status)
        .where(Task.agent_id == agent_id, Task.org_id == scope.org_id)
        .order_by(Task.id.desc())
        .limit(RECENT)
        .subquery()
    )
    duration = select(func.avg(newest.c.finished_at - newest.c.created_at)).where(
        newest.c.status == "completed"
    )
    asked = select(func.count()).select_from(Question).join(newest, newest.c.id == Question.task_id)
    return float(scope.conn.execute(duration).scalar() or 0.0), int(scope.conn.execute(asked).scalar_one())


def by_model(scope: OrgScope) -> list[ModelUsage]:
    """The usage of each model an organisation has asked, the most used first."""
    query = (
        select(
            Turn.model,
            func.count(distinct(Turn.task_id)).label("runs"),
            func.sum(Turn.input_tokens + Turn.output_tokens).label("tokens"),
        )
        .where(Turn.org_id == scope.org_id)
        .group_by(Turn.model)
        .order_by(func.count(distinct(Turn.task_id)).desc(), Turn.model)
    )
    return [ModelUsage(row.model, row.runs, int(row.tokens)) for row in scope.conn.execute(query)]


def runs_with_model(scope: OrgScope) -> int:
    """How many runs of an organisation have asked a model."""
    query = select(func.count(distinct(Turn.task_id))).where(Turn.org_id == scope.org_id)
    return int(scope.conn.execute(query).scalar_one())
