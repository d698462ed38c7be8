"""Limits and the slots that count them.

A slot is a row that lives exactly as long as its task is pending or running: there is no counter to drift.
A caller that reads usages in order to occupy slots locks the keys first, in sorted order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Text,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    type_coerce,
    update,
)

from runyard_common.database import advisory, rows
from runyard_common.database.columns import dump
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.admission import Kind, LimitCheck, Rule, Strategy, Usage
from runyard_common.tables.query import Limit, Slot, Start, Task, Turn

_COLUMNS = rows.columns(Rule, Limit)


def rules(conn: Connection, org_ids: Iterable[str]) -> list[Rule]:
    """The rules that bind these organisations, the operator's included. Read each time: changes bind at once."""
    query = select(*_COLUMNS).where(Limit.org_id.in_([*set(org_ids), "*"]))
    return rows.every(conn, query, _rule)


def _rule(kind: str, strategy: str, **values: Any) -> Rule:
    return Rule(kind=Kind(kind), strategy=Strategy(strategy), **values)


def binding(rules: Sequence[Rule], org_id: str) -> list[Rule]:
    """Those of `rules` that bind one organisation."""
    return [rule for rule in rules if rule.org_id in (org_id, "*")]


def usages(tx: Tx, checks: Iterable[LimitCheck], of_new: bool = True) -> dict[str, Usage]:
    """How full these limits are. Exact once their keys are locked. `of_new`: also whether tasks are queued on them,
    which queued tasks themselves need not know."""
    by_key = {check.key: check for check in checks}
    if not by_key:
        return {}
    in_use: dict[str, int] = dict(
        tx.conn.execute(
            select(Slot.limit_key, func.count())
            .where(Slot.limit_key.in_(list(by_key)))
            .group_by(Slot.limit_key)
        ).all()
    )
    waiting = _with_queued(tx, list(by_key)) if of_new else ()
    return {
        key: Usage(in_use.get(key, 0), key in waiting, _starts(tx, check), _tokens(tx, check))
        for key, check in by_key.items()
    }


def _with_queued(tx: Tx, keys: Sequence[str]) -> set[str]:
    """Those of these limits on which tasks are queued: one probe of the index each, however many wait."""
    if tx.db.is_postgres:
        return set(tx.conn.execute(_WITH_QUEUED, {"keys": keys}).scalars())
    return set(tx.conn.execute(_WITH_QUEUED_SQLITE, {"keys": dump(keys)}).scalars())


_PROBE = "EXISTS (SELECT 1 FROM tasks t WHERE t.status = 'queued' AND t.held_by = asked.value)"
_WITH_QUEUED = text(
    f"SELECT asked.value FROM unnest(CAST(:keys AS text[])) AS asked(value) WHERE {_PROBE}"  # noqa: S608 - all ours
)
_WITH_QUEUED_SQLITE = text(f"SELECT asked.value FROM json_each(:keys) AS asked WHERE {_PROBE}")  # noqa: S608


def _starts(tx: Tx, check: LimitCheck) -> dict[float, int]:
    return {
        seconds: tx.conn.execute(
            select(func.count()).where(Start.limit_key == check.key, Start.at > tx.now - seconds)
        ).scalar_one()
        for _, seconds in check.rates
    }


def _tokens(tx: Tx, check: LimitCheck) -> int:
    if check.tokens_per_minute is None:
        return 0
    query = select(func.coalesce(func.sum(Turn.input_tokens + Turn.output_tokens), 0)).where(
        Turn.at > tx.now - 60
    )
    scope, _, name = check.key.partition("|")
    kind, _, value = name.partition(":")
    if scope != "*":
        query = query.where(Turn.org_id == scope)
    if kind == Kind.MODEL:
        query = query.where(Turn.model == value)
    elif kind != Kind.ORGANISATION:  # the tasks that count against this very limit
        counted = type_coerce(Task.limit_keys, Text).contains(
            orjson.dumps(check.key).decode(), autoescape=True
        )
        query = query.join(Task, Task.id == Turn.task_id).where(counted)
    return int(tx.conn.execute(query).scalar_one())


def occupy(tx: Tx, admitted: Sequence[tuple[str, Sequence[LimitCheck]]]) -> None:
    """Give each (task id, checks) its slots and count its start."""
    slots = [
        {"limit_key": g.key, "task_id": task_id, "at": tx.now} for task_id, checks in admitted for g in checks
    ]
    starts = [
        {"limit_key": g.key, "task_id": task_id, "at": tx.now}
        for task_id, checks in admitted
        for g in checks
        if g.rates
    ]
    if slots:
        tx.conn.execute(insert(Slot), slots)
    if starts:
        tx.conn.execute(insert(Start), starts)


def cover(tx: Tx, task_id: str, checks: Sequence[LimitCheck]) -> None:
    """Give a task that holds slots those of `checks` it has not, and note its limits' keys."""
    have = set(tx.conn.execute(select(Slot.limit_key).where(Slot.task_id == task_id)).scalars())
    missing = [{"limit_key": g.key, "task_id": task_id, "at": tx.now} for g in checks if g.key not in have]
    if missing:
        tx.conn.execute(insert(Slot), missing)
        tx.conn.execute(update(Task).where(Task.id == task_id).values(limit_keys=[g.key for g in checks]))


def unowned(conn: Connection, at_most: int) -> list[str]:
    """Tasks with slots that are neither pending nor running, or that are no more; not locked."""
    holder = (Task.id == Slot.task_id, Task.status.in_(["pending", "running"]))
    query = select(Slot.task_id).where(~exists().where(*holder)).distinct().limit(at_most)
    return list(conn.execute(query).scalars())


def release(tx: Tx, task_ids: Sequence[str]) -> list[str]:
    """Delete the slots of these tasks; their limits' keys."""
    gone = delete(Slot).where(Slot.task_id.in_(task_ids)).returning(Slot.limit_key)
    return list(tx.conn.execute(gone).scalars())


def holders(conn: Connection, key: str) -> list[str]:
    """The tasks that hold a slot of this limit."""
    return list(conn.execute(select(Slot.task_id).where(Slot.limit_key == key)).scalars())


def running(conn: Connection, key: str) -> list[tuple[str, float | None]]:
    """The agent's id of each task that holds a slot of this limit, and since when it runs, if it does."""
    query = (
        select(Task.agent_id, Task.started_at)
        .join(Slot, Slot.task_id == Task.id)
        .where(Slot.limit_key == key)
    )
    return [(row.agent_id, row.started_at) for row in conn.execute(query)]


def count_starts(conn: Connection, key: str, since: float) -> int:
    """How many starts of a limit were counted after a time."""
    return int(
        conn.execute(select(func.count()).where(Start.limit_key == key, Start.at > since)).scalar_one()
    )


def nth_start(conn: Connection, key: str, since: float, index: int) -> float:
    """When the start at this index was counted, oldest first; `since` where it was deleted meanwhile."""
    query = select(Start.at).where(Start.limit_key == key, Start.at > since).order_by(Start.at)
    found = conn.execute(query.offset(index).limit(1)).scalar()
    return since if found is None else float(found)


def prune_starts(tx: Tx, older_than: float) -> int:
    """Forget starts before `older_than` (epoch seconds); the longest window must be shorter."""
    return int(tx.conn.execute(delete(Start).where(Start.at < older_than)).rowcount)


def share(tx: Tx, org_ids: Iterable[str]) -> None:
    """Keep the limits of these organisations, and the operator's, as they are until this transaction ends.

    What gives slots does so before it relies on the rules: who changes them counts its slots, or is waited for.
    """
    advisory.share(tx, [_of(org_id) for org_id in {*org_ids, "*"}])


def alter(tx: Tx, org_id: str) -> None:
    """Wait for what relies on an organisation's limits, and keep others from it, to change them."""
    advisory.lock(tx, [_of(org_id)])


def _of(org_id: str) -> str:
    return f"limits of {org_id}"


def save(tx: Tx, rule: Rule) -> Rule:
    """Insert or replace one limit by id; the limit as it is now."""
    saved = replace(rule, created_at=tx.now, updated_at=tx.now)
    tx.conn.execute(delete(Limit).where(Limit.id == rule.id))
    tx.conn.execute(insert(Limit), rows.values(saved))
    return saved


def remove(tx: Tx, org_id: str, limit_id: str) -> bool:
    """Delete one limit of an organisation."""
    return bool(
        tx.conn.execute(delete(Limit).where(and_(Limit.id == limit_id, Limit.org_id == org_id))).rowcount
    )


def stored(conn: Connection, limit_id: str) -> Rule | None:
    """One limit, whosever it is."""
    return rows.first(conn, select(*_COLUMNS).where(Limit.id == limit_id), _rule)


def of_organisation(scope: OrgScope, limit_id: str | None = None) -> list[Rule]:
    """The limits that bind an organisation, or one of them."""
    query = select(*_COLUMNS).where(or_(Limit.org_id == scope.org_id, Limit.org_id == "*"))
    if limit_id is not None:
        query = query.where(Limit.id == limit_id)
    return rows.every(scope.conn, query.order_by(Limit.kind, Limit.selector), _rule)
