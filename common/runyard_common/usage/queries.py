"""Rows of usage: one per model turn, added to its task's totals in the same transaction; sums of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, distinct, func, insert, null, select, update

from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.tasks import Head
from runyard_common.runs.rules.tasks import Task as Run
from runyard_common.tables.query import Agent, ApiKey, Message, Organisation, Question, Task, Turn

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """What a model turn used. `cost_micros` is in millionths of a USD."""

    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_micros: int = 0


def count(tx: Tx, turns: Sequence[tuple[Head, str, ModelTurn]]) -> None:
    """Record model turns (head, journal key, usage) and add them to their tasks."""
    if not turns:
        return
    tx.conn.execute(
        insert(Turn),
        [
            {
                "task_id": head.id,
                "key": key,
                "org_id": head.org_id,
                "agent_id": head.agent_id,
                "session_id": head.session_id,
                "key_id": head.key_id,
                "at": tx.now,
                **rows.values(turn),
            }
            for head, key, turn in turns
        ],
    )
    ids = sorted({head.id for head, _, _ in turns})
    known = {
        r.id: (r.usage or {}, r.cost_micros)
        for r in tx.conn.execute(select(Task.id, Task.usage, Task.cost_micros).where(Task.id.in_(ids)))
    }
    for head, _, turn in turns:
        usage, cost = known[head.id]
        usage = {name: usage.get(name, 0) + getattr(turn, name) for name in _TOKENS} | {
            "total_tokens": usage.get("total_tokens", 0) + turn.input_tokens + turn.output_tokens,
            "turns": usage.get("turns", 0) + 1,
            "model": turn.model,
        }
        known[head.id] = usage, cost + turn.cost_micros
    statement = (
        update(Task)
        .where(Task.id == bindparam("t"))
        .values(usage=bindparam("u", type_=Task.__table__.c.usage.type), cost_micros=bindparam("c"))
    )
    tx.conn.execute(statement, [{"t": t, "u": known[t][0], "c": known[t][1]} for t in ids])
    _spend(tx, turns)


def _spend(tx: Tx, turns: Sequence[tuple[Head, str, ModelTurn]]) -> None:
    """Subtract what was spent from the prepaid balances of the organisations that have one."""
    spent: dict[str, int] = {}
    for head, _, turn in turns:
        spent[head.org_id] = spent.get(head.org_id, 0) + turn.cost_micros
    for org_id, cost in sorted(spent.items()):
        if cost:
            tx.conn.execute(
                update(Organisation)
                .where(Organisation.id == org_id, Organisation.balance_micros.is_not(None))
                .values(balance_micros=Organisation.balance_micros - cost)
            )


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


def spends(tx: Tx, task_ids: Sequence[str]) -> dict[str, Spend]:
    """The spend of each task."""
    query = (
        select(Task.id, Task.cost_micros, Organisation.balance_micros)
        .join(Organisation, Organisation.id == Task.org_id, isouter=True)
        .where(Task.id.in_(list(task_ids)))
    )
    return {row.id: Spend(int(row.cost_micros), row.balance_micros) for row in tx.conn.execute(query)}


def with_unread_messages(tx: Tx, task_ids: Sequence[str]) -> set[str]:
    """Those of these tasks that have unread messages."""
    query = select(Message.task_id).where(Message.task_id.in_(list(task_ids)), Message.unread.is_(True))
    return set(tx.conn.execute(query.distinct()).scalars())


def numbers(conn: Connection, runs: Sequence[Run]) -> dict[str, int]:
    """Each run's number among its agent's runs in the organisation, from 1, by task id."""
    by_agent: dict[tuple[str, str], list[str]] = defaultdict(list)
    for run in runs:
        by_agent[run.org_id, run.agent_id].append(run.id)
    found: dict[str, int] = {}
    for (org_id, agent_id), ids in by_agent.items():
        counted, last = 0, ""
        for id_ in sorted(ids):
            mine = (Task.agent_id == agent_id, Task.org_id == org_id, Task.id > last, Task.id <= id_)
            counted += conn.execute(select(func.count()).where(*mine)).scalar_one()
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
