"""Schedules: make, change, pause, resume, trigger, preview and delete them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.specs import AcceptedRun, AgentRef, RunSpec
from runyard_common.runs.service import refusals, runs, submissions
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.runs.service.runs import Caller, RunRules
from runyard_common.schedules.queries import fires as fire_rows
from runyard_common.schedules.queries import new_schedules, schedules
from runyard_common.schedules.rules import new_schedule, scheduled_run
from runyard_common.schedules.rules.catchup import default_window_s
from runyard_common.schedules.rules.firing import count_runs
from runyard_common.schedules.rules.new_schedule import NewSchedule, Wanted, placed
from runyard_common.schedules.rules.policies import OverlapDecision, decide_overlap
from runyard_common.schedules.rules.preview import PreviewEntry, preview
from runyard_common.schedules.rules.schedule import CronSchedule
from runyard_common.schedules.rules.stored_schedule import ScheduleState, StoredSchedule
from runyard_common.schedules.rules.timezones import zone_named
from runyard_common.schedules.service import fires
from runyard_common.values.errors import Conflict, NotFound, RunyardError, ScheduleError
from runyard_common.values.ids import is_uuid


def pinned_version(named: str, agent: AgentRecord) -> str | None:
    """The version that `named` means by itself: a caller who names a version's id means that one."""
    return agent.ref.version if is_uuid(named) and named.lower() == agent.ref.version_id else None


def prepare(
    wanted: Wanted,
    request: RunRequest,
    agent: AgentRecord,
    caller: Caller,
    rules: RunRules,
    *,
    now: float,
    version: str | None = None,
) -> NewSchedule:
    """Judge a schedule and the run it is to make, as if that came now. `now` is in epoch seconds.

    `version` pins the agent's version in place of the one the request names. Errors: `ScheduleError`, and
    those of `runs.prepare`.
    """
    new_schedule.judge(wanted, now)
    spec = _prepared(request, agent, caller, rules, now)
    run = scheduled_run.stored_run(request, spec, caller.session_scope, version=version)
    return NewSchedule(wanted, run, rules.max_schedules, tools=spec.tools, knowledge=spec.knowledge)


def _prepared(
    request: RunRequest, agent: AgentRecord, caller: Caller, rules: RunRules, now: float
) -> RunSpec:
    if request.schedules:
        raise ScheduleError("A scheduled run cannot bring schedules itself.", field="schedules")
    return runs.prepare(request, agent, caller, rules, now=now)


def create(tx: Tx, new: NewSchedule, by: str | None = None) -> StoredSchedule:
    """Store a schedule. Errors: `Conflict` too_many_schedules, `ScheduleError`, those of `refusals.of_names`.

    Here and below `by` is whom the audit log names; None notes nothing.
    """
    missing = refusals.of_names(tx.conn, new.run.org_id, new.tools, new.knowledge)
    refused = {0: missing} if missing is not None else new_schedules.refusals(tx, [[new]])
    if refused:
        raise refused[0]
    made = new_schedules.store(tx, [new])[0]
    note(tx, made.org_id, by, "create", made.id, {"schedule": made.spec})
    return made


def note(tx: Tx, org_id: str, by: str | None, verb: str, schedule_id: str, data: Any = None) -> None:
    """Write a change of a schedule into the audit log, where an actor made it."""
    if by is not None:
        identity.audit(tx, org_id, by, f"schedule.{verb}", schedule_id, data)


def get(tx: Tx, org_id: str, schedule_id: str) -> StoredSchedule:
    """A schedule of the organisation. Error: `NotFound` schedule_not_found."""
    return _found(schedules.get(tx.scope(org_id), schedule_id))


def lock(tx: Tx, org_id: str, schedule_id: str) -> StoredSchedule:
    """The same, locked until the transaction ends. Error: `NotFound` schedule_not_found."""
    return _found(schedules.get(tx.scope(org_id), schedule_id, lock=True))


def _found(schedule: StoredSchedule | None) -> StoredSchedule:
    if schedule is None:
        raise NotFound("There is no such schedule.", code="schedule_not_found", field="schedule_id")
    return schedule


#: Fields of a schedule that may be changed, besides the run it makes.
CHANGEABLE = frozenset(field.name for field in fields(Wanted)) - {"enabled", "at"}


def update(
    tx: Tx,
    org_id: str,
    schedule_id: str,
    changes: Mapping[str, Any],
    request: RunRequest | None,
    rules: RunRules,
    by: str | None = None,
    agent: AgentRecord | None = None,
) -> StoredSchedule:
    """Change fields of `Wanted` (those in `CHANGEABLE`), and the run when `request` is given.

    New times count from now; a paused schedule stays paused. `agent` is what the request is judged by, in place of
    the schedule's own. Errors: `NotFound`, `ScheduleError`, those of
    `runs.prepare` and `refusals.of_names`.
    """
    old = lock(tx, org_id, schedule_id)
    wanted = replace(_wanted(old), **{name: value for name, value in changes.items() if name in CHANGEABLE})
    values = _values(tx, old, wanted, changes, rules)
    if request is not None:
        agent = agent or agents.resolve(tx.scope(org_id), old.agent_id, request.version)
        caller = fires.caller_of(old)
        spec = _prepared(request, agent, caller, rules, tx.now)
        missing = refusals.of_names(tx.conn, org_id, spec.tools, spec.knowledge)
        if missing is not None:
            raise missing
        run = scheduled_run.stored_run(request, spec, caller.session_scope)
        values |= {"run": run.to_json(), "secrets": run.secrets}
    schedules.change(tx, schedule_id, **values)
    changed = sorted({*changes, *(("run",) if request is not None else ())})
    note(tx, org_id, by, "update", schedule_id, {"fields": changed})
    return get(tx, org_id, schedule_id)


def _wanted(old: StoredSchedule) -> Wanted:
    """A stored schedule as a request would have it."""
    spec = old.spec
    return Wanted(
        spec.get("expression") or spec.get("text") or spec.get("seconds"),
        old.timezone,
        old.name,
        old.overlap.value,
        old.catch_up.value,
        old.catch_up_window_s,
        old.jitter_s,
        old.end_at,
        old.max_fires,
        old.pause_after_failures,
        meta=old.meta,
    )


def _values(
    tx: Tx, old: StoredSchedule, wanted: Wanted, changes: Mapping[str, Any], rules: RunRules
) -> dict[str, Any]:
    """The columns that a change sets, the next due time among them."""
    policies = new_schedule.judge_policies(wanted)
    values: dict[str, Any] = {
        "name": wanted.name,
        "timezone": wanted.timezone,
        "overlap": policies.overlap.value,
        "catch_up": policies.catch_up.value,
        "catch_up_window_s": policies.window_s,
        "jitter_s": wanted.jitter_s,
        "end_at": policies.lifetime.end_at,
        "max_fires": wanted.max_fires,
        "pause_after_failures": wanted.pause_after_failures,
        "meta": wanted.meta,
    }
    zone_named(wanted.timezone)
    retimed = "schedule" in changes or ("timezone" in changes and old.kind != "delay")
    if retimed:
        values |= _new_times(tx, old, wanted, changes)
    elif old.state is ScheduleState.FINISHED:
        values |= {"last_due_at": max(tx.now, old.last_due_at or 0.0)}
    new = replace(old, **values | {"overlap": policies.overlap, "catch_up": policies.catch_up})
    due = new.first_after(new.last_due_at, old.fired)
    if due is None and (retimed or not changes.keys().isdisjoint(("end_at", "max_fires"))):
        new_schedule.due_within(new.lifetime, due)
    if old.state is ScheduleState.PAUSED or due is None:
        return values
    if old.state is ScheduleState.FINISHED:
        new_schedules.check_cap(tx, old.org_id, rules.max_schedules)
    return values | placed(due, new.jitter)


def _new_times(tx: Tx, old: StoredSchedule, wanted: Wanted, changes: Mapping[str, Any]) -> dict[str, Any]:
    """New times count from now: what the old ones missed is not made up for."""
    asked = wanted if "catch_up" in changes else replace(wanted, catch_up=None)
    judged = new_schedule.judge(asked, tx.now)
    times = judged.times
    values: dict[str, Any] = {"kind": times.kind, "spec": times.to_json(), "last_due_at": None}
    if isinstance(times, CronSchedule):
        values["last_due_at"] = max(tx.now, old.last_due_at or 0.0)
    if "catch_up_window_s" not in changes and old.catch_up_window_s == default_window_s(old.times):
        values["catch_up_window_s"] = default_window_s(times)
    return values


def pause(
    tx: Tx, org_id: str, schedule_id: str, reason: str | None = None, by: str | None = None
) -> StoredSchedule:
    """Let a schedule rest until it is resumed. Errors: `NotFound`, `Conflict` schedule_finished."""
    old = lock(tx, org_id, schedule_id)
    _not_finished(old)
    if old.state is ScheduleState.ACTIVE:
        values = {"enabled": False, "paused_reason": reason, "next_due_at": None, "wake_at": None}
        schedules.change(tx, schedule_id, **values)
        note(tx, org_id, by, "pause", schedule_id, {"reason": reason})
    return get(tx, org_id, schedule_id)


def resume(tx: Tx, org_id: str, schedule_id: str, by: str | None = None) -> StoredSchedule:
    """Let a paused schedule go on from now; what passed meanwhile is not made up for.

    Errors: `NotFound`, `Conflict` schedule_finished (also when its last time passed while it was paused).
    """
    old = lock(tx, org_id, schedule_id)
    _not_finished(old)
    if old.state is ScheduleState.ACTIVE:
        return old
    handled = max(tx.now, old.last_due_at or 0.0)
    due = old.first_after(handled, old.fired)
    if due is None:
        raise Conflict(
            "Its last time passed while it was paused. Give it a new schedule.", code="schedule_finished"
        )
    values = {"last_due_at": handled, "failures": 0, **placed(due, old.jitter)}
    schedules.change(tx, schedule_id, **values)
    note(tx, org_id, by, "resume", schedule_id)
    return get(tx, org_id, schedule_id)


def _not_finished(schedule: StoredSchedule) -> None:
    if schedule.state is ScheduleState.FINISHED:
        raise Conflict(
            "This schedule is finished: it will never be due again. Give it a new schedule or a later end.",
            code="schedule_finished",
        )


def remove(
    tx: Tx, org_id: str, schedule_id: str, by: str | None = None, stop_running: bool = False
) -> StoredSchedule:
    """Delete a schedule and its history. Runs that wait behind another are stopped, one under way goes on
    unless `stop_running`. Error: `NotFound`."""
    old = lock(tx, org_id, schedule_id)
    open_runs = count_runs(old, fire_rows.open_runs(tx.conn, [old.id]).get(old.id, []))
    ending = [run.task_id for run in (*open_runs.queued, *(open_runs.active if stop_running else ()))]
    fire_rows.remove(tx, [old.id])
    schedules.remove(tx, [old.id])
    if ending:
        cancel_tasks(tx, ending, "its schedule was deleted", by)
    note(tx, org_id, by, "delete", schedule_id)
    return old


@dataclass(frozen=True, slots=True)
class Triggered:
    """A run made out of turn."""

    schedule: StoredSchedule
    accepted: AcceptedRun
    agent: AgentRef


def trigger(
    tx: Tx, rules: RunRules, org_id: str, schedule_id: str, by: str | None = None
) -> Triggered | None:
    """Run a schedule now, besides its due times, paused or not; its overlap policy holds.

    None: its runs under way were stopped first, call again. Errors: `NotFound`; `Conflict` schedule_busy (its
    policy leaves out what overlaps); those that refuse the run itself.
    """
    schedule = lock(tx, org_id, schedule_id)
    open_tasks = count_runs(schedule, fire_rows.open_runs(tx.conn, [schedule.id]).get(schedule.id, []))
    decision = decide_overlap(schedule.overlap, active=len(open_tasks.active), queued=len(open_tasks.queued))
    if decision is OverlapDecision.SKIP:
        raise Conflict(
            "An earlier run of this schedule has not ended, and its overlap policy leaves this one out.",
            code="schedule_busy",
        )
    if decision is OverlapDecision.STOP_AND_START:
        ending = [run.task_id for run in (*open_tasks.active, *open_tasks.queued)]
        cancel_tasks(tx, ending, "the next run of its schedule was triggered", by)
        return None
    queued = decision is OverlapDecision.QUEUE
    fire = fires.prepare(schedule, tx.now, queued, fires.Agents(tx.conn), rules, tx.now, _triggered(by))
    made = _run(tx, fire)
    note(tx, org_id, by, "trigger", schedule_id, {"task_id": made.accepted.task_id})
    return made


def _triggered(by: str | None) -> str:
    return f"triggered by {by}" if by else "triggered"


def _run(tx: Tx, fire: fires.Fire) -> Triggered:
    if isinstance(fire.run, RunyardError):
        raise fire.run
    if not fire_rows.claim(tx, [fire.row(tx.now)]):
        raise Conflict("It was triggered at this very moment already.", code="schedule_busy")
    answer = submissions.submit(tx, [fire.run])[0]
    if isinstance(answer, RunyardError):
        raise answer
    schedules.change(tx, fire.schedule.id, last_task_id=fire.task_id)
    return Triggered(fire.schedule, answer, fire.run.agent)


def upcoming(schedule: StoredSchedule, now: float, count: int) -> list[PreviewEntry]:
    """The next due times of a schedule, as if it were resumed now when it is paused. Error: `ScheduleError`."""
    if schedule.state is ScheduleState.FINISHED:
        return []
    left = schedule.lifetime.remaining(schedule.fired)
    after = now
    if schedule.state is ScheduleState.ACTIVE and schedule.next_due_at is not None:
        after = schedule.next_due_at - 1e-3
    entries = preview(schedule.times, after, count, schedule.lifetime)
    return entries if left is None else entries[:left]


def what_if(wanted: Wanted, now: float, count: int) -> list[PreviewEntry]:
    """The due times that a schedule would have, made now. Errors: `ScheduleError`."""
    judged = new_schedule.judge(wanted, now)
    after = min(now, judged.first - 1e-3)
    entries = preview(judged.times, after, count, judged.policies.lifetime)
    return entries if wanted.max_fires is None else entries[: wanted.max_fires]
