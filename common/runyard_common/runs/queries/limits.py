"""Limits and the slots that count them.

A slot is a row that lives exactly as long as its task is pending or running: there is no counter to drift.
Whoever reads loads in order to take slots first locks the keys, in sorted order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Text, and_, delete, func, insert, or_, select, type_coerce, update

from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.admission import Gate, Kind, Load, Rule, Strategy
from runyard_common.tables.query import Limit, Slot, Start, Task, Turn


def rules(conn: Connection, org_ids: Iterable[str]) -> list[Rule]:
    """The rules that bind these organisations, the operator's included. Read afresh: changes bind at once."""
    query = select(Limit).where(Limit.org_id.in_([*set(org_ids), "*"]))
    return [rule(row) for row in conn.execute(query.with_only_columns(*Limit.__table__.c))]


def rule(row: Any) -> Rule:
    """A rule from its row."""
    return Rule(
        row.id,
        row.org_id,
        Kind(row.kind),
        row.selector,
        row.max_concurrent,
        row.rate_count,
        row.rate_seconds,
        row.tokens_per_minute,
        Strategy(row.strategy),
    )


def binding(rules: Sequence[Rule], org_id: str) -> list[Rule]:
    """Those of `rules` that bind one organisation."""
    return [rule for rule in rules if rule.org_id in (org_id, "*")]


def loads(tx: Tx, gates: Iterable[Gate]) -> dict[str, Load]:
    """How full these limits are. Exact once their keys are locked."""
    by_key = {gate.key: gate for gate in gates}
    if not by_key:
        return {}
    held: dict[str, int] = dict(
        tx.conn.execute(
            select(Slot.limit_key, func.count())
            .where(Slot.limit_key.in_(list(by_key)))
            .group_by(Slot.limit_key)
        ).all()
    )
    waiting = set(
        tx.conn.execute(
            select(Task.held_by).where(Task.held_by.in_(list(by_key)), Task.status == "queued").distinct()
        ).scalars()
    )
    return {
        key: Load(held.get(key, 0), key in waiting, _starts(tx, gate), _tokens(tx, gate))
        for key, gate in by_key.items()
    }


def _starts(tx: Tx, gate: Gate) -> dict[float, int]:
    return {
        seconds: tx.conn.execute(
            select(func.count()).where(Start.limit_key == gate.key, Start.at > tx.now - seconds)
        ).scalar_one()
        for _, seconds in gate.rates
    }


def _tokens(tx: Tx, gate: Gate) -> int:
    if gate.tokens_per_minute is None:
        return 0
    query = select(func.coalesce(func.sum(Turn.input_tokens + Turn.output_tokens), 0)).where(
        Turn.at > tx.now - 60
    )
    scope, _, name = gate.key.partition("|")
    kind, _, value = name.partition(":")
    if scope != "*":
        query = query.where(Turn.org_id == scope)
    if kind == Kind.MODEL:
        query = query.where(Turn.model == value)
    elif kind != Kind.ORGANISATION:  # the tasks that count against this very limit
        counted = type_coerce(Task.limit_keys, Text).contains(
            orjson.dumps(gate.key).decode(), autoescape=True
        )
        query = query.join(Task, Task.id == Turn.task_id).where(counted)
    return int(tx.conn.execute(query).scalar_one())


def take(tx: Tx, taken: Sequence[tuple[str, Sequence[Gate]]]) -> None:
    """Give each (task id, gates) its slots and count its start."""
    slots = [
        {"limit_key": g.key, "task_id": task_id, "at": tx.now} for task_id, gates in taken for g in gates
    ]
    starts = [
        {"limit_key": g.key, "task_id": task_id, "at": tx.now}
        for task_id, gates in taken
        for g in gates
        if g.rates
    ]
    if slots:
        tx.conn.execute(insert(Slot), slots)
    if starts:
        tx.conn.execute(insert(Start), starts)


def cover(tx: Tx, task_id: str, gates: Sequence[Gate]) -> None:
    """Give a task that holds slots those of `gates` it has not, and note its limits' keys."""
    have = set(tx.conn.execute(select(Slot.limit_key).where(Slot.task_id == task_id)).scalars())
    missing = [{"limit_key": g.key, "task_id": task_id, "at": tx.now} for g in gates if g.key not in have]
    if missing:
        tx.conn.execute(insert(Slot), missing)
        tx.conn.execute(update(Task).where(Task.id == task_id).values(limit_keys=[g.key for g in gates]))


def holders(conn: Connection, key: str) -> list[str]:
    """The tasks that hold a slot of this limit."""
    return list(conn.execute(select(Slot.task_id).where(Slot.limit_key == key)).scalars())


def prune_starts(tx: Tx, older_than: float) -> int:
    """Forget starts before `older_than` (epoch seconds); the longest window must be shorter."""
    return int(tx.conn.execute(delete(Start).where(Start.at < older_than)).rowcount)


def save(tx: Tx, values: dict[str, Any]) -> None:
    """Insert or replace one limit by id."""
    tx.conn.execute(delete(Limit).where(Limit.id == values["id"]))
    tx.conn.execute(insert(Limit), {"created_at": tx.now} | values | {"updated_at": tx.now})


def remove(tx: Tx, org_id: str, limit_id: str) -> bool:
    """Delete one limit of an organisation."""
    return bool(
        tx.conn.execute(delete(Limit).where(and_(Limit.id == limit_id, Limit.org_id == org_id))).rowcount
    )


def listed(conn: Connection, org_id: str, limit_id: str | None = None) -> list[dict[str, Any]]:
    """The limits that bind an organisation, as rows."""
    query = select(*Limit.__table__.c).where(or_(Limit.org_id == org_id, Limit.org_id == "*"))
    if limit_id is not None:
        query = query.where(Limit.id == limit_id)
    return [dict(row._mapping) for row in conn.execute(query.order_by(Limit.kind, Limit.selector))]
