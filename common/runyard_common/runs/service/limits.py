"""Limits: rules that admission obeys from the moment they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from runyard_common.database.transaction import Tx
from runyard_common.identity.service import caps
from runyard_common.runs.queries import limits, tasks
from runyard_common.runs.rules.admission import Facts, Kind, Rule, Strategy, gates
from runyard_common.tables.query import Task
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import token

#: Starts are kept this long, so no window may be longer. Seconds.
LONGEST_WINDOW = 86_400.0


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """A limit somebody asks for. `rate` is starts per `rate_seconds`; at least one bound is needed."""

    kind: str
    selector: str = "*"
    max_concurrent: int | None = None
    rate_count: int | None = None
    rate_seconds: float | None = None
    tokens_per_minute: int | None = None
    strategy: str = "enqueue"


def save(tx: Tx, org_id: str, wanted: LimitRequest, limit_id: str | None = None) -> dict[str, Any]:
    """Create or replace a limit; running tasks that it binds are counted at once, none is ended.

    Errors: `InvalidRequest` invalid_limit (field tells which), `NotFound` when `limit_id` is not this
    organisation's.
    """
    _check(wanted)
    if limit_id is not None and not _own(tx, org_id, limit_id):
        raise NotFound("There is no such limit.", code="limit_not_found")
    if limit_id is None and org_id != "*":
        caps.check(tx, org_id, "limits")
    id_ = limit_id or token("lim_", 8)
    row = {
        "id": id_,
        "org_id": org_id,
        "kind": wanted.kind,
        "selector": wanted.selector,
        "max_concurrent": wanted.max_concurrent,
        "rate_count": wanted.rate_count,
        "rate_seconds": wanted.rate_seconds,
        "tokens_per_minute": wanted.tokens_per_minute,
        "strategy": wanted.strategy,
    }
    limits.save(tx, row)
    _count_holders(tx, org_id)
    _wake_held(tx, org_id)
    return limits.listed(tx.conn, org_id, id_)[0]


def remove(tx: Tx, org_id: str, limit_id: str) -> None:
    """Delete a limit; what it held is admitted. Error: `NotFound`."""
    if not limits.remove(tx, org_id, limit_id):
        raise NotFound("There is no such limit.", code="limit_not_found")
    _wake_held(tx, org_id)


def _own(tx: Tx, org_id: str, limit_id: str) -> bool:
    return any(row["org_id"] == org_id for row in limits.listed(tx.conn, org_id, limit_id))


def _check(wanted: LimitRequest) -> None:
    if wanted.kind not in set(Kind):
        raise _invalid("kind", f"Use one of: {', '.join(Kind)}.")
    if wanted.strategy not in set(Strategy):
        raise _invalid("strategy", f"Use one of: {', '.join(Strategy)}.")
    if wanted.kind == Kind.KEY and not wanted.selector.startswith("/"):
        raise _invalid(
            "selector", "A key limit's selector is a JSON pointer into args, such as /customer/id."
        )
    if (wanted.rate_count is None) != (wanted.rate_seconds is None):
        raise _invalid("rate_seconds", "Give rate_count and rate_seconds together.")
    if wanted.rate_seconds is not None and not 0 < wanted.rate_seconds <= LONGEST_WINDOW:
        raise _invalid("rate_seconds", "A window is longer than 0 and at most 86,400 seconds.")
    bounds = (wanted.max_concurrent, wanted.rate_count, wanted.tokens_per_minute)
    if all(bound is None for bound in bounds):
        raise _invalid("max_concurrent", "Give max_concurrent, a rate, or tokens_per_minute.")
    if any(bound is not None and bound < 0 for bound in bounds):
        raise _invalid("max_concurrent", "A bound is 0 or more.")


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_limit", field=field)


def _count_holders(tx: Tx, org_id: str) -> None:
    """Give running and pending tasks the slots of limits that did not exist when they were admitted."""
    query = select(Task.id).where(Task.status.in_(["pending", "running"]), Task.finished_at.is_(None))
    if org_id != "*":
        query = query.where(Task.org_id == org_id)
    holders = tasks.load(tx.conn, tx.conn.execute(query).scalars())
    rules = limits.rules(tx.conn, {task.org_id for task in holders.values()} | {org_id})
    for task in holders.values():
        binding = gates(limits.binding(rules, task.org_id), _facts(task))
        limits.cover(tx, task.id, binding)


def _facts(task: Any) -> Facts:
    args = (task.input or {}).get("args")
    return Facts(task.org_id, task.agent_name, task.end_user_id, task.session_id, model=task.model, args=args)


def _wake_held(tx: Tx, org_id: str) -> None:
    """Let admission look again at everything that a changed rule may have held."""
    query = select(Task.held_by).where(Task.status == "queued", Task.held_by.like("%|%")).distinct()
    if org_id != "*":
        query = query.where(Task.org_id == org_id)
    tx.freed.update(tx.conn.execute(query.limit(1000)).scalars())


__all__ = ["LONGEST_WINDOW", "LimitRequest", "Rule", "remove", "save"]
