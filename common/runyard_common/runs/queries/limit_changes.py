"""Writing a limit, and what follows: tasks that run are counted, and admission looks at the queued ones again."""

from __future__ import annotations

from sqlalchemy import Text, select, type_coerce

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import limits, tasks
from runyard_common.runs.queries.transitions import lock
from runyard_common.runs.rules.admission import AdmissionContext, Kind, Rule, limit_checks, map_of
from runyard_common.runs.rules.lifecycle import OCCUPIES_SLOTS
from runyard_common.runs.rules.tasks import Task
from runyard_common.tables import query as tables


def put(tx: Tx, rule: Rule) -> Rule:
    """Make this the limit of its id; running tasks that it binds are counted at once, none is ended."""
    limits.alter(tx, rule.org_id)
    saved = limits.save(tx, rule)
    _count_holders(tx, rule)
    _let_admission_look(tx, rule.org_id)
    return saved


def discard(tx: Tx, org_id: str, limit_id: str) -> bool:
    """Delete a limit if it is there; what it kept queued is admitted."""
    found = limits.remove(tx, org_id, limit_id)
    if found:
        _let_admission_look(tx, org_id)
    return found


def _count_holders(tx: Tx, rule: Rule) -> None:
    """Give the running and pending tasks that this may bind the slots of limits that they were admitted without.

    They are locked first: one that ends meanwhile gives up only the slots that it had when it was locked.
    """
    row = tables.Task
    query = select(row.id).where(row.status.in_(["pending", "running"]), row.finished_at.is_(None))
    if rule.org_id != "*":
        query = query.where(row.org_id == rule.org_id)
    if rule.kind is Kind.AGENT and rule.selector.startswith("@"):
        query = query.where(row.agent_name == rule.selector)
    heads = lock(tx, tx.conn.execute(query).scalars())
    holders = tasks.load(tx.conn, [id_ for id_, head in heads.items() if head.status in OCCUPIES_SLOTS])
    rules = limits.rules(tx.conn, {task.org_id for task in holders.values()} | {rule.org_id})
    for task in holders.values():
        binding = limit_checks(limits.binding(rules, task.org_id), context_of(task))
        limits.cover(tx, task.id, binding)


def context_of(task: Task) -> AdmissionContext:
    """What limits look at in a task."""
    args = (task.input or {}).get("args")
    return AdmissionContext(
        task.org_id,
        task.agent_name,
        task.end_user_id,
        task.session_id,
        model=task.model,
        args=args,
        map=map_of(task.limit_keys),
    )


def _let_admission_look(tx: Tx, org_id: str) -> None:
    """Let admission look again at everything that a changed rule may have kept queued."""
    row = tables.Task
    stored = type_coerce(row.blocked_by, Text)
    query = select(row.blocked_by).where(row.status == "queued", stored.like("%|%")).distinct()
    if org_id != "*":
        query = query.where(row.org_id == org_id)
    tx.freed.update(tx.conn.execute(query.limit(1000)).scalars())
