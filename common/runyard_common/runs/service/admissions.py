"""Admit: queued tasks move on when their limit has room, their back-off is over, or their child has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import lanes, limits, tasks
from runyard_common.runs.queries.transitions import Change, lock, move
from runyard_common.runs.rules.admission import Facts, Gate, Kind, Load, Rule, Strategy, decide, gates, label
from runyard_common.runs.rules.fairness import order
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.tasks import Head, Task
from runyard_common.schedules.queries import fires
from runyard_common.sessions.queries import sessions

BATCH = 100
RETRY = "retry"  # what holds a task in back-off
RESUME = "resume"  # what holds an answered or handed-back task until its limits are looked at


def admit(tx: Tx, keys: Iterable[str]) -> int:
    """Admit what these limits hold and may now start, fairly between lanes; how many were admitted."""
    candidates: dict[str, Task] = {}
    for key in sorted(set(keys)):
        candidates |= {task.id: task for task in _next_of(tx, key)}
    # Runs that were under way already go before backlog, whichever limit holds either.
    return admit_tasks(tx, sorted(candidates.values(), key=lambda task: task.resume))


def admit_held(tx: Tx, key: str) -> int:
    """Admit what one limit holds, and what waits for a child that has ended."""
    if key.startswith("child:") and not _ended(tx, key.removeprefix("child:")):
        return 0
    return admit(tx, [key])


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
    facts = {t.id: _facts(t, strategies, args.get(t.id)) for t in candidates}
    gated = {t.id: gates(limits.binding(rules, t.org_id), facts[t.id]) for t in candidates}
    unique = {gate.key: gate for its in gated.values() for gate in its}
    advisory.lock(tx, unique)
    loads = limits.loads(tx, unique.values())
    heads = lock(tx, gated)
    changes: list[Change] = []
    held: list[tuple[str, str]] = []
    taken: list[tuple[str, Sequence[Gate]]] = []
    for task in candidates:
        its = gated[task.id]
        head = heads.get(task.id)
        if head is None or head.status != "queued":
            continue
        full = decide(its, loads, queue_jump=True).full
        if full is not None:
            held.append((task.id, full.key))
            continue
        for gate in its:
            old = loads.get(gate.key, Load())
            loads[gate.key] = Load(
                old.held + 1, old.waiting, {s: n + 1 for s, n in old.starts.items()}, old.tokens
            )
        taken.append((task.id, its))
        values = {"held_by": None, "available_at": None, "limit_keys": [g.key for g in its] or None}
        changes.append(Change(task.id, Event.ADMIT, data={"after": label(task.held_by or "")}, values=values))
    limits.take(tx, taken)
    tasks.hold(tx, held)
    return sum(isinstance(answer, Head) for answer in move(tx, changes, heads))


def _next_of(tx: Tx, key: str) -> list[Task]:
    """The tasks that `key` holds, in the order in which it should let them through."""
    if key.startswith(fires.BEHIND):
        return fires.next_held(tx, key.removeprefix(fires.BEHIND))
    waiting = lanes.held(tx.conn, key)
    if not waiting:
        return []
    by_lane = {lane: iter(tasks.held(tx.conn, key, lane, tx.now, BATCH)) for lane in waiting[:BATCH]}
    clocks, system = lanes.clocks(tx.conn, list(by_lane))
    picked = (next(by_lane[lane], None) for lane in order(list(by_lane), clocks, system, BATCH))
    return sorted((task for task in picked if task is not None), key=lambda task: task.resume)


def _arguments(tx: Tx, candidates: Sequence[Task], rules: Sequence[Rule]) -> dict[str, Any]:
    """The arguments of the runs that a limit by key looks into; inputs can be large, and few limits do."""
    keyed = [rule for rule in rules if rule.kind is Kind.KEY]
    looked_into = [task.id for task in candidates if limits.binding(keyed, task.org_id)]
    found = tasks.inputs(tx.conn, looked_into) if looked_into else {}
    return {task_id: (text.value or {}).get("args") for task_id, text in found.items()}


def _facts(task: Task, strategies: dict[str, Strategy], args: Any) -> Facts:
    return Facts(
        task.org_id,
        task.agent_name,
        task.end_user_id,
        task.session_id,
        strategies.get(task.session_id or "", Strategy.ENQUEUE),
        task.model,
        args,
    )
