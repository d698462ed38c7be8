"""Submit: a run is stored, admitted or held, with its first event and its doorbell, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import insert

from runyard_common.database import advisory
from runyard_common.database.group_commit import apart
from runyard_common.database.transaction import Tx
from runyard_common.identity.rules.caps import STORAGE
from runyard_common.identity.service import caps
from runyard_common.runs.queries import limits, tasks, transitions
from runyard_common.runs.rules.admission import Gate, Load, Strategy, decide, gates, label
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.retry import NO_RETRIES, merged
from runyard_common.runs.rules.specs import Accepted, RunSpec
from runyard_common.runs.service.stops import stop_now
from runyard_common.tables.query import StoredFile
from runyard_common.values.errors import Conflict, RunyardError, StaleFence, TooManyRequests
from runyard_common.webhooks.queries import callbacks, deliveries


@apart
def submit(tx: Tx, specs: Sequence[RunSpec]) -> list[Accepted | RunyardError]:
    """Store these runs. Each is accepted (pending, or queued with the limit that holds it) or refused.

    Errors: `TooManyRequests` backlog_full (the organisation's backlog is at its bound), `Conflict`
    limit_reached (a full limit whose strategy is reject), `StaleFence` (the parent's attempt is over).
    """
    rules = limits.rules(tx.conn, {spec.org_id for spec in specs})
    gated = [gates(limits.binding(rules, spec.org_id), spec.facts) for spec in specs]
    loads = _lock_and_load(tx, gated)  # limits before rows, here and everywhere
    refused = _refuse_full_backlogs(tx, specs) | _refuse_files(tx, specs) | _refuse_stale_parents(tx, specs)
    answers: list[Accepted | RunyardError] = []
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
        answers.append(Accepted(spec.task_id, status, shown, tx.now))
    if rows:
        tasks.insert_many(tx, rows, events)
        _promise(tx, specs, rows, events)
        limits.take(tx, taken)
        _store_files(tx, specs, {row["id"] for row in rows})
    return answers


def preview(tx: Tx, spec: RunSpec) -> dict[str, Any]:
    """What `submit` would do, storing nothing: the status, and each limit with how full it is."""
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
        stop_now(tx, limits.holders(tx.conn, full.key), "interrupted by a newer run")
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


def _refuse_full_backlogs(tx: Tx, specs: Sequence[RunSpec]) -> dict[int, RunyardError]:
    """Refuse what goes over an organisation's bound: exactly for bounds below 1,000, roughly above (`_room`)."""
    room: dict[str, int] = {}
    refused: dict[int, RunyardError] = {}
    for index, spec in enumerate(specs):
        if spec.max_queued is None:
            continue
        if spec.org_id not in room:
            room[spec.org_id] = _room(tx, spec.org_id, spec.max_queued)
        room[spec.org_id] -= 1
        if room[spec.org_id] < 0:
            refused[index] = TooManyRequests(
                f"The organisation's backlog holds {spec.max_queued} runs, its bound; submit again later.",
                code="backlog_full",
                retry_after=5,
            )
    for org_id, left in room.items():
        _rooms[org_id] = (_rooms[org_id][0], left)
    return refused


#: When each organisation's backlog was last counted here, and how much room there was left below its bound.
_rooms: dict[str, tuple[float, int]] = {}


def _room(tx: Tx, org_id: str, bound: int) -> int:
    """How many more runs may wait. Far from a large bound one count a second will do: counting a backlog of
    thousands in every transaction would cost more than storing the run."""
    counted_at, left = _rooms.get(org_id, (0.0, 0))
    if not (bound >= 1000 and left > bound // 10 and 0 <= tx.now - counted_at < 1.0):
        counted_at, left = tx.now, bound - tasks.backlog(tx.conn, org_id, bound)
        _rooms[org_id] = (counted_at, left)
    return left


def _refuse_files(tx: Tx, specs: Sequence[RunSpec]) -> dict[int, RunyardError]:
    """Refuse runs whose files an organisation has no room for."""
    refused: dict[int, RunyardError] = {}
    before: dict[
        str, list[int]
    ] = {}  # the sizes of files of runs before in this transaction, not counted yet
    for index, spec in enumerate(specs):
        if not (files := spec.input.get("files")):
            continue
        sizes = [*before.get(spec.org_id, ()), *(f["size"] for f in files)]
        try:
            caps.check(tx, spec.org_id, "stored_files", len(sizes))
            caps.check(tx, spec.org_id, STORAGE, sum(sizes))
        except RunyardError as refusal:
            refused[index] = refusal
        else:
            before[spec.org_id] = sizes
    return refused


def _refuse_stale_parents(tx: Tx, specs: Sequence[RunSpec]) -> dict[int, RunyardError]:
    fenced = {i: s for i, s in enumerate(specs) if s.parent_id is not None and s.parent_fence is not None}
    if not fenced:
        return {}
    heads = transitions.lock(tx, (s.parent_id for s in fenced.values() if s.parent_id))
    refused: dict[int, RunyardError] = {}
    for index, spec in fenced.items():
        assert spec.parent_fence is not None
        if not transitions.owns(heads.get(spec.parent_id or ""), spec.parent_fence):
            refused[index] = StaleFence(task_id=spec.parent_id, attempt=spec.parent_fence.attempt)
    return refused


def _promise(
    tx: Tx,
    specs: Sequence[RunSpec],
    rows: Sequence[dict[str, Any]],
    events: Sequence[tuple[str, dict[str, Any]]],
) -> None:
    """Keep where these runs call back to, and promise what their first events entail."""
    called = {spec.task_id: spec.callback for spec in specs if spec.callback is not None}
    callbacks.keep(
        tx,
        [
            {"task_id": row["id"], "org_id": row["org_id"], "url": to.url, "headers": to.headers}
            for row in rows
            if (to := called.get(row["id"])) is not None
        ],
    )
    heads = [transitions.head(SimpleNamespace(**row, last_seq=1)) for row in rows]
    told = [(head, Event(type_), data) for head, (type_, data) in zip(heads, events, strict=True)]
    deliveries.promise(tx, told)


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
