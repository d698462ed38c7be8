"""Usage rows: one per model turn, added to the task's totals in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, null, select, update

from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.tasks import Head
from runyard_common.tables.query import Agent, ApiKey, Organisation, Task, Turn

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")


def count(tx: Tx, turns: Sequence[tuple[Head, str, dict[str, Any] | None]]) -> None:
    """Record model turns (head, journal key, {model, …tokens, cost_micros}) and add them to their tasks."""
    rows = [
        {
            "task_id": head.id,
            "key": key,
            "org_id": head.org_id,
            "agent_id": head.agent_id,
            "session_id": head.session_id,
            "key_id": head.key_id,
            "at": tx.now,
            "cost_micros": 0,
            **dict.fromkeys(_TOKENS, 0),
            **turn,
        }
        for head, key, turn in turns
        if turn
    ]
    if not rows:
        return
    tx.conn.execute(insert(Turn), rows)
    ids = sorted({row["task_id"] for row in rows})
    known = {
        r.id: (r.usage or {}, r.cost_micros)
        for r in tx.conn.execute(select(Task.id, Task.usage, Task.cost_micros).where(Task.id.in_(ids)))
    }
    for row in rows:
        usage, cost = known[row["task_id"]]
        usage = {name: usage.get(name, 0) + row[name] for name in _TOKENS} | {
            "total_tokens": usage.get("total_tokens", 0) + row["input_tokens"] + row["output_tokens"],
            "turns": usage.get("turns", 0) + 1,
            "model": row["model"],
        }
        known[row["task_id"]] = usage, cost + row["cost_micros"]
    statement = (
        update(Task)
        .where(Task.id == bindparam("t"))
        .values(usage=bindparam("u", type_=Task.__table__.c.usage.type), cost_micros=bindparam("c"))
    )
    tx.conn.execute(statement, [{"t": t, "u": known[t][0], "c": known[t][1]} for t in ids])
    _spend(tx, rows)


def _spend(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Take what was spent off the prepaid balances of the organisations that have one."""
    spent: dict[str, int] = {}
    for row in rows:
        spent[row["org_id"]] = spent.get(row["org_id"], 0) + row["cost_micros"]
    for org_id, cost in sorted(spent.items()):
        if cost:
            tx.conn.execute(
                update(Organisation)
                .where(Organisation.id == org_id, Organisation.balance_micros.is_not(None))
                .values(balance_micros=Organisation.balance_micros - cost)
            )


@dataclass(frozen=True, slots=True)
class Span:
    """An organisation's turns from `since` (inclusive) until `until` (exclusive), in epoch seconds."""

    org_id: str
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


def sums(conn: Connection, span: Span, by: str, limit: int) -> list[dict[str, Any]]:
    """Turns summed by agent, key, session, model or task, with its id and name; the costliest first."""
    column, key, name = _BY[by]
    query = select(column.label("id"), *_SUMS).where(*_within(span)).group_by(column)
    summed = (
        query.order_by(func.sum(Turn.cost_micros).desc(), func.count().desc(), column).limit(limit).subquery()
    )
    told = select(*summed.c, (null() if name is None else name).label("name"))
    if key is not None:
        told = told.outerjoin(key.table, key == summed.c.id)
    ordered = told.order_by(summed.c.cost_micros.desc(), summed.c.turns.desc(), summed.c.id)
    return [dict(row._mapping) for row in conn.execute(ordered)]


def total(conn: Connection, span: Span) -> dict[str, Any]:
    """All turns summed."""
    return dict(conn.execute(select(*_SUMS).where(*_within(span))).one()._mapping)


def _within(span: Span) -> tuple[Any, ...]:
    return Turn.org_id == span.org_id, Turn.at >= span.since, Turn.at < span.until


def forget_agent(tx: Tx, org_id: str, agent_id: str) -> int:
    """Delete the usage rows of an agent that is deleted itself; how many."""
    done = tx.conn.execute(delete(Turn).where(Turn.org_id == org_id, Turn.agent_id == agent_id))
    return int(done.rowcount)
