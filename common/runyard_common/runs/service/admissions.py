"""Admit: queued tasks move on when their limit has room, their back-off is over, or their child has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import lanes, limits, tasks
from runyard_common.runs.queries.transitions import Change, lock, move
from runyard_common.runs.rules.admission import (
    AdmissionContext,
    Kind,
    LimitCheck,
    Rule,
    Strategy,
    Usage,
    full_limit,
    limit_checks,
)
from runyard_common.runs.rules.blocked_by import BlockedBy, Blocker
from runyard_common.runs.rules.fairness import order
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.tasks import Head, Task
from runyard_common.schedules.queries import fires
from runyard_common.sessions.queries import sessions

BATCH = 100


def admit(tx: Tx, blockers: Iterable[BlockedBy]) -> int:
    """Admit what these keep queued and may now start, fairly between lanes; how many were admitted."""
    candidates: dict[str, Task] = {}
    for by in sorted(set(blockers)):
        candidates |= {task.id: task for task in _next_of(tx, by)}
    # Runs that were under way already go before backlog, whichever limit keeps either.
    return admit_tasks(tx, sorted(candidates.values(), key=lambda task: task.resume))


def admit_next(tx: Tx, by: BlockedBy) -> int:
    """Admit what one limit keeps queued, or what waits for a child that has ended."""
    if by.kind is Blocker.CHILD and not _ended(tx, by.what):
        return 0
    return admit(tx, [by])


def _ended(tx: Tx, child_id: str) -> bool:
    child = tasks.light(tx.conn, [child_id]).get(child_id)
    return child is None or child.finished_at is not None


def admit_due(tx: Tx) -> int:
    """Admit tasks whose back-off is over."""
    return admit_tasks(tx, tasks.due(tx.conn, tx.now, BATCH))


def admit_tasks(tx: Tx, candidates: Sequence[Task]) -> int:
    """Judge these queued tasks in the order given; those with room in every limit become pending."""
    if not candidates:
        return 0
    rules = limits.rules(tx.conn, {task.org_id for task in candidates})
    strategies = sessions.strategies(tx.conn, {t.session_id for t in candidates if t.session_id})
    args = _arguments(tx, candidates, rules)
    context = {t.id: _context(t, strategies, args.get(t.id)) for t in candidates}
    checked = {t.id: limit_checks(limits.binding(rules, t.org_id), context[t.id]) for t in candidates}
    unique = {check.key: check for its in checked.values() for check in its}
    advisory.lock(tx, unique)
    usages = limits.usages(tx, unique.values())
    heads = lock(tx, checked)
    changes: list[Change] = []
    queued: list[tuple[str, BlockedBy]] = []
    admitted: list[tuple[str, Sequence[LimitCheck]]] = []
    for task in candidates:
        its = checked[task.id]
        head = heads.get(task.id)
        if head is None or head.status != "queued":
            continue
        full = full_limit(its, usages, queue_jump=True)
        if full is not None:
            queued.append((task.id, full.blocked_by))
            continue
        for check in its:
            usages[check.key] = usages.get(check.key, Usage()).one_more
        admitted.append((task.id, its))
        values = {
            "blocked_by": None,
            "available_at": None,
            "limit_keys": [check.key for check in its] or None,
        }
        changes.append(
            Change(
                task.id,
                Event.ADMIT,
                data={"after": task.blocked_by.label if task.blocked_by else ""},
                values=values,
            )
        )
    limits.occupy(tx, admitted)
    tasks.block(tx, queued)
    return sum(isinstance(answer, Head) for answer in move(tx, changes, heads))


def _next_of(tx: Tx, by: BlockedBy) -> list[Task]:
    """The tasks that this keeps queued, in the order in which it should let them through."""
    if by.kind is Blocker.SCHEDULE:
        return fires.next_queued(tx, by.what)
    waiting = lanes.queued(tx.conn, by)
    if not waiting:
        return []
    by_lane = {lane: iter(tasks.blocked(tx.conn, by, lane, tx.now, BATCH)) for lane in waiting[:BATCH]}
    clocks, system = lanes.clocks(tx.conn, list(by_lane))
    picked = (next(by_lane[lane], None) for lane in order(list(by_lane), clocks, system, BATCH))
    return sorted((task for task in picked if task is not None), key=lambda task: task.resume)


def _arguments(tx: Tx, candidates: Sequence[Task], rules: Sequence[Rule]) -> dict[str, Any]:
    """The arguments of the runs that a limit by key looks into; inputs can be large, and few limits do."""
    keyed = [rule for rule in rules if rule.kind is Kind.KEY]
    looked_into = [task.id for task in candidates if limits.binding(keyed, task.org_id)]
    found = tasks.inputs(tx.conn, looked_into) if looked_into else {}
    return {task_id: (text.value or {}).get("args") for task_id, text in found.items()}


def _context(task: Task, strategies: dict[str, Strategy], args: Any) -> AdmissionContext:
    return AdmissionContext(
        task.org_id,
        task.agent_name,
        task.end_user_id,
        task.session_id,
        strategies.get(task.session_id or "", Strategy.ENQUEUE),
        task.model,
        args,
    )
