"""Submit: a run is refused, or stored with its session, its schedules and its first event, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, insert

from runyard_common.database import advisory
from runyard_common.database.group_commit import apart
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import limits, tasks, transitions
from runyard_common.runs.rules.admission import Gate, Load, Strategy, decide, gates, label
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.retry import NO_RETRIES, merged
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec, ScheduleRef
from runyard_common.runs.service import refusals, sessions_of_runs
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.schedules.queries import new_schedules, schedules
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.tables.query import StoredFile
from runyard_common.values.errors import Conflict, RunyardError
from runyard_common.webhooks.queries import callbacks, deliveries
from runyard_common.webhooks.queries.callbacks import CallbackRow


@apart
def submit(tx: Tx, specs: Sequence[RunSpec]) -> list[AcceptedRun | RunyardError]:
    """Store these runs: requests, children, retries, occurrences of schedules and chores of the server alike.

    Each is accepted (pending, or queued with the limit that holds it) or refused. A group-commit batch function.
    Errors: those of `refusals`, and `Conflict` limit_reached (a full limit whose strategy is reject).
    """
    refused = refusals.of_requests(tx, specs)
    placed = sessions_of_runs.placed(tx, specs, refused)
    stored = iter(_store(tx, [spec for index, spec in enumerate(placed) if index not in refused]))
    return [refused.get(index) or next(stored) for index in range(len(specs))]


def _store(tx: Tx, specs: Sequence[RunSpec]) -> list[AcceptedRun | RunyardError]:
    rules = limits.rules(tx.conn, {spec.org_id for spec in specs})
    gated = [gates(limits.binding(rules, spec.org_id), spec.facts) for spec in specs]
    loads = _lock_and_load(tx, gated)  # limits before rows, here and everywhere
    refused = refusals.of_stored(tx, specs)
    answers: list[AcceptedRun | RunyardError] = []
    rows: list[dict[str, Any]] = []
    events: list[tuple[str, dict[str, Any]]] = []
    taken: list[tuple[str, Sequence[Gate]]] = []
    for index, (spec, its_gates) in enumerate(zip(specs, gated, strict=True)):
        try:
            if index in refused:
                raise refused[index]
            full = _admit(tx, its_gates, loads) if spec.held_by is None else None
        except RunyardError as refusal:
            answers.append(refusal)
            continue
        held_by = full.key if full else spec.held_by
        status = Status.PENDING if held_by is None else Status.QUEUED
        if held_by is None:
            taken.append((spec.task_id, its_gates))
        rows.append(_row(tx, spec, status, its_gates, held_by))
        event = Event.SUBMIT if held_by is None else Event.HOLD
        shown = label(held_by) if held_by else None
        events.append((event.value, {"agent": spec.agent.name, "held_by": shown}))
        kept = new_schedules.store(tx, spec.schedules) if spec.schedules else ()
        answers.append(AcceptedRun(spec.task_id, status, shown, tx.now, spec.session_id, _refs(kept)))
    if rows:
        tasks.insert_many(tx, rows, events)
        _enqueue(tx, specs, rows, events)
        limits.take(tx, taken)
        _store_files(tx, specs, {row["id"] for row in rows})
    return answers


def _refs(kept: Iterable[StoredSchedule | None]) -> tuple[ScheduleRef, ...]:
    return tuple(ScheduleRef(one.id, one.kind, one.next_due_at) for one in kept if one is not None)


def stored(conn: Connection, spec: RunSpec) -> AcceptedRun | None:
    """The run of this id, if it is stored: by an earlier sender of the same request, who died before the answer."""
    task = tasks.get(conn, spec.org_id, spec.task_id)
    if task is None:
        return None
    kept = [schedules.get(OrgScope(conn, spec.org_id), new.id) for new in spec.schedules]
    held_by = label(task.held_by) if task.held_by else None
    return AcceptedRun(task.id, task.status, held_by, task.created_at, task.session_id, _refs(kept))


def preview(tx: Tx, spec: RunSpec) -> dict[str, Any]:
    """What `submit` would do, storing nothing: the status, and each limit with how full it is."""
    for refusal in refusals.of_lookups(tx, [spec]).values():
        raise refusal
    spec = sessions_of_runs.known(tx.conn, spec)
    its_gates = gates(limits.binding(limits.rules(tx.conn, {spec.org_id}), spec.org_id), spec.facts)
    loads = limits.loads(tx, its_gates)
    full = decide(its_gates, loads).full
    refused = full is not None and full.strategy is Strategy.REJECT
    return {
        "would": "reject" if refused else "queue" if full else "start",
        "status": None if refused else (Status.QUEUED if full else Status.PENDING).value,
        "held_by": label(full.key) if full else None,
        "limits": [
            {
                "limit": label(g.key),
                "max_concurrent": g.max_concurrent,
                "in_use": loads[g.key].held,
                "strategy": g.strategy.value,
            }
            for g in its_gates
        ],
    }


def _lock_and_load(tx: Tx, gated: Sequence[Sequence[Gate]]) -> dict[str, Load]:
    unique = {gate.key: gate for its in gated for gate in its}
    if not unique:
        return {}
    advisory.lock(tx, unique)
    return limits.loads(tx, unique.values())


def _admit(tx: Tx, its_gates: Sequence[Gate], loads: dict[str, Load]) -> Gate | None:
    """Count the task against its gates in `loads`; the gate that holds it, if one is full."""
    full = decide(its_gates, loads).full
    if full is not None and full.strategy is Strategy.REJECT:
        raise Conflict(
            f"The limit {label(full.key)} is reached.", code="limit_reached", limit=label(full.key)
        )
    if full is not None and full.strategy is Strategy.INTERRUPT:
        cancel_tasks(tx, limits.holders(tx.conn, full.key), "interrupted by a newer run")
        loads[full.key] = limits.loads(tx, [full])[full.key]
        full = decide(its_gates, loads, queue_jump=True).full
    if full is None:
        for gate in its_gates:
            loads[gate.key] = _one_more(loads.get(gate.key, Load()))
    else:
        old = loads.get(full.key, Load())
        loads[full.key] = Load(old.held, True, old.starts, old.tokens)
    return full


def _one_more(load: Load) -> Load:
    return Load(load.held + 1, load.waiting, {s: n + 1 for s, n in load.starts.items()}, load.tokens)


def _row(
    tx: Tx, spec: RunSpec, status: Status, its_gates: Sequence[Gate], held_by: str | None
) -> dict[str, Any]:
    agent = spec.agent
    policy = NO_RETRIES if spec.attempts_left == 1 else merged(agent.retry_policy)
    return {
        "id": spec.task_id,
        "org_id": spec.org_id,
        "agent_id": agent.agent_id,
        "version_id": agent.version_id,
        "agent_name": agent.name,
        "version": agent.version,
        "status": status.value,
        "front": spec.front,
        "external_id": spec.external_id,
        "title": spec.title,
        "session_id": spec.session_id,
        "end_user_id": spec.end_user_id,
        "created_by": spec.created_by,
        "key_id": spec.key_id,
        "parent_id": spec.parent_id,
        "retry_of": spec.retry_of,
        "schedule_id": spec.schedule_id,
        "lane": spec.lane or spec.org_id,
        "priority": spec.priority,
        "resume": 1,
        "held_by": held_by,
        "model": spec.model,
        "required_agent": agent.required,
        "limit_keys": [gate.key for gate in its_gates] or None,
        "available_at": None,
        "expires_at": tx.now + spec.ttl_s if spec.ttl_s is not None else None,
        "deadline_at": _deadline(spec, tx.now),
        "timeout_s": agent.timeout_s,
        "attempt": 0,
        "claim_token": None,
        "lease_owner": None,
        "suspicion": 0,
        "releases": 0,
        "retry_policy": policy,
        "retries": None,
        "input": spec.input_text or spec.input,
        "secrets": spec.secrets,
        "has_callback": spec.has_callback,
        "output": None,
        "error": None,
        "usage": None,
        "cost_micros": 0,
        "meta": spec.meta or None,
        "created_at": tx.now,
        "updated_at": tx.now,
        "started_at": None,
        "finished_at": None,
    }


def _deadline(spec: RunSpec, now: float) -> float | None:
    """The earlier of the two ways to give one, in epoch seconds."""
    ends = [spec.deadline_at, None if spec.deadline_s is None else now + spec.deadline_s]
    return min((end for end in ends if end is not None), default=None)


def _enqueue(
    tx: Tx,
    specs: Sequence[RunSpec],
    rows: Sequence[dict[str, Any]],
    events: Sequence[tuple[str, dict[str, Any]]],
) -> None:
    """Keep where these runs call back to, and enqueue the deliveries of their first events."""
    called = {spec.task_id: spec.callback for spec in specs if spec.callback is not None}
    callbacks.keep(
        tx,
        [
            CallbackRow(row["id"], row["org_id"], to.url, to.headers)
            for row in rows
            if (to := called.get(row["id"])) is not None
        ],
    )
    heads = [transitions.head(SimpleNamespace(**row, last_seq=1)) for row in rows]
    told = [(head, Event(type_), data) for head, (type_, data) in zip(heads, events, strict=True)]
    deliveries.enqueue(tx, told)


def _store_files(tx: Tx, specs: Sequence[RunSpec], stored: set[str]) -> None:
    rows = [
        {
            "id": f["id"],
            "org_id": spec.org_id,
            "task_id": spec.task_id,
            "sha256": f["sha256"],
            "name": f["name"],
            "media_type": f["media_type"],
            "size": f["size"],
            "field": f.get("field"),
            "created_at": tx.now,
        }
        for spec in specs
        if spec.task_id in stored
        for f in spec.input.get("files") or ()
    ]
    if rows:
        tx.conn.execute(insert(StoredFile), rows)
