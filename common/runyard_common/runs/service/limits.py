"""Limits: rules that admission obeys from the moment they are committed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Text, select, type_coerce

from runyard_common.database.transaction import Tx
from runyard_common.identity.service import caps
from runyard_common.runs.queries import limits, tasks
from runyard_common.runs.queries.transitions import lock
from runyard_common.runs.rules.admission import AdmissionContext, Kind, Rule, Strategy, limit_checks
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import OCCUPIES_SLOTS
from runyard_common.runs.rules.tasks import Task
from runyard_common.tables import query as tables
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import token

#: Starts are kept this long, so no window may be longer. Seconds.
LONGEST_WINDOW = 86_400.0


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """A limit that is asked for. `rate` is starts per `rate_seconds`; at least one bound is needed."""

    kind: str
    selector: str = "*"
    max_concurrent: int | None = None
    rate_count: int | None = None
    rate_seconds: float | None = None
    tokens_per_minute: int | None = None
    strategy: str = "enqueue"


def save(tx: Tx, org_id: str, wanted: LimitRequest, limit_id: str | None = None) -> Rule:
    """Create or replace a limit; running tasks that it binds are counted at once, none is ended.

    Errors: `InvalidRequest` invalid_limit (with the field), `NotFound` when `limit_id` is not this
    organisation's.
    """
    _check(wanted)
    limits.alter(tx, org_id)
    if limit_id is not None and not _own(tx, org_id, limit_id):
        raise NotFound("There is no such limit.", code="limit_not_found")
    if limit_id is None and org_id != "*":
        caps.check(tx, org_id, "limits")
    rule = Rule(
        limit_id or token("lim_", 8),
        org_id,
        Kind(wanted.kind),
        wanted.selector,
        wanted.max_concurrent,
        wanted.rate_count,
        wanted.rate_seconds,
        wanted.tokens_per_minute,
        Strategy(wanted.strategy),
    )
    saved = limits.save(tx, rule)
    _count_holders(tx, org_id)
    _let_admission_look(tx, org_id)
    return saved


def remove(tx: Tx, org_id: str, limit_id: str) -> None:
    """Delete a limit; what it kept queued is admitted. Error: `NotFound`."""
    if not limits.remove(tx, org_id, limit_id):
        raise NotFound("There is no such limit.", code="limit_not_found")
    _let_admission_look(tx, org_id)


def release_leaked(tx: Tx, at_most: int) -> int:
    """Delete the slots of tasks that are neither pending nor running: earlier versions left some. How many."""
    task_ids = limits.unowned(tx.conn, at_most)
    heads = lock(tx, task_ids) if task_ids else {}
    leaked = [id_ for id_ in task_ids if id_ not in heads or heads[id_].status not in OCCUPIES_SLOTS]
    keys = limits.release(tx, leaked) if leaked else []
    tx.freed.update(BlockedBy.limit(key) for key in keys)
    return len(keys)


def _own(tx: Tx, org_id: str, limit_id: str) -> bool:
    return any(rule.org_id == org_id for rule in limits.of_organisation(tx.scope(org_id), limit_id))


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
    """Give running and pending tasks the slots of limits that did not exist when they were admitted.

    They are locked first: one that ends meanwhile gives up only the slots that it had when it was locked.
    """
    row = tables.Task
    query = select(row.id).where(row.status.in_(["pending", "running"]), row.finished_at.is_(None))
    if org_id != "*":
        query = query.where(row.org_id == org_id)
    heads = lock(tx, tx.conn.execute(query).scalars())
    holders = tasks.load(tx.conn, [id_ for id_, head in heads.items() if head.status in OCCUPIES_SLOTS])
    rules = limits.rules(tx.conn, {task.org_id for task in holders.values()} | {org_id})
    for task in holders.values():
        binding = limit_checks(limits.binding(rules, task.org_id), context_of(task))
        limits.cover(tx, task.id, binding)


def context_of(task: Task) -> AdmissionContext:
    """What limits look at in a task."""
    args = (task.input or {}).get("args")
    return AdmissionContext(
        task.org_id, task.agent_name, task.end_user_id, task.session_id, model=task.model, args=args
    )


def _let_admission_look(tx: Tx, org_id: str) -> None:
    """Let admission look again at everything that a changed rule may have kept queued."""
    row = tables.Task
    stored = type_coerce(row.blocked_by, Text)
    query = select(row.blocked_by).where(row.status == "queued", stored.like("%|%")).distinct()
    if org_id != "*":
        query = query.where(row.org_id == org_id)
    tx.freed.update(tx.conn.execute(query.limit(1000)).scalars())
