"""Submit: a run is refused, or stored with its session, its schedules and its first event, in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from runyard_common.database import advisory
from runyard_common.database.config_memory import Known
from runyard_common.database.group_commit import own_transaction
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.erasing import no_runs
from runyard_common.runs.queries import configured, files, limits, tasks, transitions
from runyard_common.runs.queries.configured import Configured
from runyard_common.runs.queries.files import Attachment
from runyard_common.runs.rules.admission import LimitCheck, Strategy, Usage, full_limit, limit_checks
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.retry import NO_RETRIES, merged
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec, ScheduleRef
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import refusals, sessions_of_runs
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.schedules.queries import new_schedules, schedules
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.values.errors import Conflict, RunyardError
from runyard_common.webhooks.queries import callbacks, deliveries
from runyard_common.webhooks.queries.callbacks import CallbackRow
from runyard_common.webhooks.queries.deliveries import Listener


@own_transaction
def submit(tx: Tx, specs: Sequence[RunSpec]) -> list[AcceptedRun | RunyardError]:
    """Store these runs: requests, children, retries, occurrences of schedules and chores of the server alike.

    Each is accepted (pending, or queued with the limit that is full) or refused. A group-commit batch function.
    Errors: those of `refusals`, `Conflict` limit_reached (a full limit whose strategy is reject), and `Forbidden`
    organisation_erased.
    """
    org_ids, paying = _whose(specs)
    limits.share(tx, org_ids)
    return _submit(tx, specs, *configured.current(tx, org_ids, paying))


@own_transaction
def submit_remembered(tx: Tx, specs: Sequence[RunSpec]) -> list[AcceptedRun | RunyardError]:
    """As `submit`, and by what this process remembers: where a run needs no look-up, nothing is waited for before the
    commit. For a group commit alone: raises `Outdated` where the memory does not count, and looks at the next try."""
    org_ids, paying = _whose(specs)
    known = configured.remembered(tx, org_ids)
    if known is None or any(s.judged is not None and s.judged.at != known[s.org_id].number for s in specs):
        return submit(tx, specs)
    limits.share(tx, org_ids)
    configured.require(tx, known, paying)
    return _submit(tx, specs, known, frozenset())


def _whose(specs: Sequence[RunSpec]) -> tuple[set[str], set[str]]:
    """The organisations of these runs, and those of them whose balance counts."""
    return {spec.org_id for spec in specs}, {spec.org_id for spec in specs if spec.requested}


def _submit(
    tx: Tx, specs: Sequence[RunSpec], known: Mapping[str, Known[Configured]], broke: Collection[str]
) -> list[AcceptedRun | RunyardError]:
    numbers = {org_id: its.number for org_id, its in known.items()}
    refused = refusals.of_requests(tx, specs, broke) | refusals.of_changes(tx, specs, numbers)
    refused |= {index: no_runs() for index, spec in enumerate(specs) if known[spec.org_id].value.erasing}
    placed = sessions_of_runs.placed(tx, specs, refused)
    left = [spec for index, spec in enumerate(placed) if index not in refused]
    stored = iter(_store(tx, left, {org_id: its.value for org_id, its in known.items()}) if left else ())
    return [refused.get(index) or next(stored) for index in range(len(specs))]


def _store(
    tx: Tx, specs: Sequence[RunSpec], known: Mapping[str, Configured]
) -> list[AcceptedRun | RunyardError]:
    checked = [limit_checks(known[spec.org_id].rules, spec.context) for spec in specs]
    usages = _lock_and_count(tx, checked)  # limits before rows, here and everywhere
    refused = refusals.of_stored(tx, specs)
    answers: list[AcceptedRun | RunyardError] = []
    new: list[Task] = []
    events: list[tuple[str, dict[str, Any]]] = []
    admitted: list[tuple[str, Sequence[LimitCheck]]] = []
    for index, (spec, checks) in enumerate(zip(specs, checked, strict=True)):
        try:
            if index in refused:
                raise refused[index]
            full = _admit(tx, checks, usages) if spec.blocked_by is None else None
        except RunyardError as refusal:
            answers.append(refusal)
            continue
        by = full.blocked_by if full else spec.blocked_by
        status = Status.PENDING if by is None else Status.QUEUED
        if by is None:
            admitted.append((spec.task_id, checks))
        new.append(_task(tx, spec, status, checks, by))
        event = Event.SUBMIT if by is None else Event.QUEUE
        shown = by.label if by else None
        events.append((event.value, {"agent": spec.agent.name, "held_by": shown}))
        kept = new_schedules.store(tx, spec.schedules) if spec.schedules else ()
        answers.append(AcceptedRun(spec.task_id, status, shown, tx.now, spec.session_id, _refs(kept)))
    if new:
        tasks.insert_many(tx, new, events)
        _enqueue(tx, specs, new, events, {org_id: its.listeners for org_id, its in known.items()})
        limits.occupy(tx, admitted)
        _store_files(tx, specs, {task.id for task in new})
    return answers


def _refs(kept: Iterable[StoredSchedule | None]) -> tuple[ScheduleRef, ...]:
    return tuple(ScheduleRef(one.id, one.kind, one.next_due_at) for one in kept if one is not None)


def stored(conn: Connection, spec: RunSpec) -> AcceptedRun | None:
    """The run of this id, if it is stored: by an earlier sender of the same request, who died before the answer."""
    task = tasks.get(OrgScope(conn, spec.org_id), spec.task_id)
    if task is None:
        return None
    kept = [schedules.get(OrgScope(conn, spec.org_id), new.id) for new in spec.schedules]
    by = task.blocked_by.label if task.blocked_by else None
    return AcceptedRun(task.id, task.status, by, task.created_at, task.session_id, _refs(kept))


def preview(tx: Tx, spec: RunSpec) -> dict[str, Any]:
    """What `submit` would do, storing nothing: the status, and each limit with how full it is."""
    paying = {spec.org_id} if spec.requested else set()
    for refusal in refusals.of_lookups(tx, [spec], identity.out_of_balance(tx.conn, paying)).values():
        raise refusal
    spec = sessions_of_runs.known(tx.conn, spec)
    checks = limit_checks(limits.binding(limits.rules(tx.conn, {spec.org_id}), spec.org_id), spec.context)
    usages = limits.usages(tx, checks)
    full = full_limit(checks, usages)
    refused = full is not None and full.strategy is Strategy.REJECT
    return {
        "would": "reject" if refused else "queue" if full else "start",
        "status": None if refused else (Status.QUEUED if full else Status.PENDING).value,
        "held_by": full.blocked_by.label if full else None,
        "limits": [
            {
                "limit": g.blocked_by.label,
                "max_concurrent": g.max_concurrent,
                "in_use": usages[g.key].in_use,
                "strategy": g.strategy.value,
            }
            for g in checks
        ],
    }


def _lock_and_count(tx: Tx, checked: Sequence[Sequence[LimitCheck]]) -> dict[str, Usage]:
    unique = {check.key: check for its in checked for check in its}
    if not unique:
        return {}
    advisory.lock(tx, unique)
    return limits.usages(tx, unique.values())


def _admit(tx: Tx, checks: Sequence[LimitCheck], usages: dict[str, Usage]) -> LimitCheck | None:
    """Count the task against its checks in `usages`; the one that is full, if one is."""
    full = full_limit(checks, usages)
    if full is not None and full.strategy is Strategy.REJECT:
        shown = full.blocked_by.label
        raise Conflict(f"The limit {shown} is reached.", code="limit_reached", limit=shown)
    if full is not None and full.strategy is Strategy.INTERRUPT:
        cancel_tasks(tx, limits.holders(tx.conn, full.key), "interrupted by a newer run")
        usages[full.key] = limits.usages(tx, [full])[full.key]
        full = full_limit(checks, usages, queue_jump=True)
    if full is None:
        for check in checks:
            usages[check.key] = usages.get(check.key, Usage()).one_more
    else:
        usages[full.key] = replace(usages.get(full.key, Usage()), waiting=True)
    return full


def _task(tx: Tx, spec: RunSpec, status: Status, checks: Sequence[LimitCheck], by: BlockedBy | None) -> Task:
    agent = spec.agent
    return Task(
        id=spec.task_id,
        org_id=spec.org_id,
        agent_id=agent.agent_id,
        version_id=agent.version_id,
        agent_name=agent.name,
        version=agent.version,
        status=status,
        front=spec.front,
        title=spec.title,
        session_id=spec.session_id,
        end_user_id=spec.end_user_id,
        created_by=spec.created_by,
        key_id=spec.key_id,
        parent_id=spec.parent_id,
        retry_of=spec.retry_of,
        schedule_id=spec.schedule_id,
        lane=spec.lane or spec.org_id,
        priority=spec.priority,
        blocked_by=by,
        model=spec.model,
        required_agent=agent.required,
        limit_keys=[check.key for check in checks] or None,
        expires_at=tx.now + spec.ttl_s if spec.ttl_s is not None else None,
        deadline_at=_deadline(spec, tx.now),
        timeout_s=agent.timeout_s,
        retry_policy=dict(NO_RETRIES if spec.attempts_left == 1 else merged(agent.retry_policy)),
        stored_input=spec.input_text or spec.input,
        secrets=spec.secrets,
        has_callback=spec.has_callback,
        meta=spec.meta or None,
        traceparent=spec.traceparent,
        created_at=tx.now,
        updated_at=tx.now,
    )


def _deadline(spec: RunSpec, now: float) -> float | None:
    """The earlier of the two ways to give one, in epoch seconds."""
    ends = [spec.deadline_at, None if spec.deadline_s is None else now + spec.deadline_s]
    return min((end for end in ends if end is not None), default=None)


def _enqueue(
    tx: Tx,
    specs: Sequence[RunSpec],
    new: Sequence[Task],
    events: Sequence[tuple[str, dict[str, Any]]],
    listeners: Mapping[str, Sequence[Listener]],
) -> None:
    """Keep where these runs call back to, and enqueue the deliveries of their first events."""
    called = {spec.task_id: spec.callback for spec in specs if spec.callback is not None}
    callbacks.keep(
        tx,
        [
            CallbackRow(task.id, task.org_id, to.url, to.headers)
            for task in new
            if (to := called.get(task.id)) is not None
        ],
    )
    first = [
        (transitions.head(task), Event(type_), data) for task, (type_, data) in zip(new, events, strict=True)
    ]
    deliveries.enqueue(tx, first, listeners)


def _store_files(tx: Tx, specs: Sequence[RunSpec], stored: set[str]) -> None:
    attached = [
        Attachment(
            f["id"],
            spec.org_id,
            spec.task_id,
            f["sha256"],
            f["name"],
            f["media_type"],
            f["size"],
            f.get("field"),
            tx.now,
        )
        for spec in specs
        if spec.task_id in stored
        for f in spec.input.get("files") or ()
    ]
    files.insert_many(tx, attached)
