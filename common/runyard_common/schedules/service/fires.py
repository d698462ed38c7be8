"""Fire: a due time becomes a run, or a recorded reason why not, in one transaction with what the schedule stores.

Several processes fire at once; each claims schedules that no other has locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection

from runyard_common import surfaces
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.blocked_by import PREFLIGHT, BlockedBy
from runyard_common.runs.rules.lifecycle import Cause, Event
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.specs import AgentRef, RunSpec
from runyard_common.runs.service import runs, submissions
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.runs.service.runs import Caller, RunRules
from runyard_common.schedules.queries import fires, schedules
from runyard_common.schedules.queries.fires import FireRow
from runyard_common.schedules.rules.firing import (
    Advance,
    FireOutcome,
    Plan,
    advance,
    count_runs,
    paused_reason,
    plan,
)
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.values.errors import (
    Conflict,
    InvalidRequest,
    PaymentRequired,
    RunyardError,
    ScheduleError,
    TooManyRequests,
)
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonObject

#: Schedules claimed in one transaction, and due times of one schedule in it: the rest is left for the next.
BATCH: Final = 200
AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Done:
    """What one transaction did: schedules claimed, runs made (failed ones included)."""

    claimed: int
    made: int
    #: What each due time came to, and how late that was, in seconds.
    handled: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class Fire:
    """One run to make: what it is, or why it cannot be."""

    schedule: StoredSchedule
    due_at: float
    queued: bool
    task_id: str
    run: RunSpec | RunyardError
    reason: str | None = None

    @property
    def refusal(self) -> RunyardError | None:
        """Why it cannot run."""
        return self.run if isinstance(self.run, RunyardError) else None

    def row(self, at: float) -> FireRow:
        """Its row in the table of fires."""
        outcome = FireOutcome.FAILED if self.refusal else FireOutcome.FIRED
        reason = text_of(self.refusal) if self.refusal else self.reason
        return FireRow(self.schedule.id, self.due_at, outcome.value, self.task_id, reason, at)


def fire(tx: Tx, rules: RunRules, claimed: Sequence[StoredSchedule]) -> Done:
    """Fire what is due of these schedules, which the caller has locked.

    A run that cannot start (its agent is gone, its arguments no longer fit, a limit refuses it) is stored and
    fails at once, with the code of the reason.
    """
    if not claimed:
        return Done(0, 0)
    # In the order in which their conversations are locked, so that two schedulers cannot block each other.
    claimed = sorted(claimed, key=lambda s: (str(s.run["request"].get("session_id", "")), s.id))
    open_runs = fires.open_runs(tx.conn, [s.id for s in claimed])
    idle = schedules.deactivated(tx.conn, {s.org_id for s in claimed})
    known = Agents(tx.conn)
    plans: list[Plan] = []
    planned: list[Fire] = []
    for schedule in claimed:
        open_tasks = count_runs(schedule, open_runs.get(schedule.id, ()))
        start = _Starter(schedule, known, rules, tx.now, schedule.org_id in idle)
        try:
            made = plan(open_tasks, tx.now, AT_ONCE, start)
        except ScheduleError as error:  # a zone that the machine no longer knows, a row of another version
            schedules.change(tx, schedule.id, **_paused(error.message))
            continue
        made.left_out += start.left_out
        plans.append(made)
        planned += start.fires
    _settle(tx, plans)
    mine = _claim(tx, plans, planned)
    late = {fire.schedule.id for fire in _submit(tx, rules, mine)}
    for made in plans:
        if made.schedule.id in late:
            made.open_tasks.failed()
    _advance(tx, plans, mine)
    ending = [task_id for made in plans for task_id in made.to_cancel]
    if ending:
        cancel_tasks(tx, ending, "the next run of its schedule is due")
    handled = [(fire.row(tx.now).outcome, tx.now - fire.due_at) for fire in mine]
    handled += [(outcome.value, tx.now - at) for made in plans for at, outcome, _ in made.left_out]
    return Done(len(claimed), len(mine), tuple(handled))


class Agents:
    """Agents and their versions, each looked up once in a transaction."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._known: dict[tuple[str, str, str | None], AgentRecord | RunyardError] = {}

    def find(self, org_id: str, agent_id: str, version: str | None) -> AgentRecord:
        asked = (org_id, agent_id, version)
        if asked not in self._known:
            try:
                self._known[asked] = agents.resolve(OrgScope(self._conn, org_id), agent_id, version)
            except RunyardError as refusal:
                self._known[asked] = refusal
        found = self._known[asked]
        if isinstance(found, RunyardError):
            raise found
        return found


def _paused(reason: str) -> dict[str, Any]:
    return {"enabled": False, "paused_reason": reason, "next_due_at": None, "wake_at": None}


@dataclass(slots=True)
class _Starter:
    """Makes the runs of one schedule as they are decided."""

    schedule: StoredSchedule
    known: Agents
    rules: RunRules
    now: float
    idle: bool  # its organisation is deactivated
    fires: list[Fire] = field(default_factory=list)
    left_out: list[tuple[float, FireOutcome, str]] = field(default_factory=list)

    def __call__(self, due_at: float, queued: bool) -> bool:
        if self.idle:
            self.left_out.append((due_at, FireOutcome.SKIPPED, "the organisation is deactivated"))
            return True
        made = prepare(self.schedule, due_at, queued, self.known, self.rules, self.now)
        self.fires.append(made)
        return made.refusal is None


def prepare(
    schedule: StoredSchedule,
    due_at: float,
    queued: bool,
    known: Agents,
    rules: RunRules,
    now: float,
    reason: str | None = None,
) -> Fire:
    """Judge a schedule's stored request as it would be if it came now."""
    task_id = uuid7()
    try:
        request = request_of(schedule, rules)
        agent = known.find(schedule.org_id, schedule.agent_id, request.version)
        run = runs.prepare(request, agent, caller_of(schedule), rules, now=now, task_id=task_id)
        if (check := surfaces.of(schedule.front).check_due) is not None:
            check(agent.kind, agent.manifest)
    except RunyardError as refusal:
        return Fire(schedule, due_at, queued, task_id, refusal, reason)
    behind = BlockedBy.schedule(schedule.id) if queued else None
    given = run.input | {"due_at": due_at}
    run = replace(run, input=given, input_text=None, schedule_id=schedule.id, blocked_by=behind)
    return Fire(schedule, due_at, queued, task_id, run, reason)


def request_of(schedule: StoredSchedule, rules: RunRules) -> RunRequest:
    """The stored request, its credentials put back. Errors: `InvalidRequest` stored_request, `SealBroken`."""
    secrets = rules.sealer.open(schedule.secrets) if schedule.secrets else {}
    try:
        return RunRequest.model_validate(runs.unsealed(schedule.run["request"], secrets))
    except (ValueError, LookupError, TypeError) as error:
        message = "The stored request is not one this version reads; save the schedule again."
        raise InvalidRequest(message, code="stored_request") from error


def caller_of(schedule: StoredSchedule) -> Caller:
    """On whose behalf a schedule runs: its maker's."""
    return Caller(
        schedule.org_id,
        schedule.created_by or "",
        schedule.front,
        schedule.key_id,
        schedule.end_user_id,
        schedule.run.get("session_scope", ""),
    )


def _settle(tx: Tx, plans: Iterable[Plan]) -> None:
    fires.settle(
        tx,
        [
            (made.schedule.id, due_at, outcome.value, None)
            for made in plans
            for due_at, outcome in made.open_tasks.settled
        ],
    )


def _claim(tx: Tx, plans: Sequence[Plan], planned: Sequence[Fire]) -> list[Fire]:
    """Insert the rows of all due times; the runs whose row was not there yet."""
    at = tx.db.now(tx.conn)
    rows = [fire.row(at) for fire in planned]
    rows += [
        FireRow(made.schedule.id, due_at, outcome.value, None, reason, at)
        for made in plans
        for due_at, outcome, reason in made.left_out
    ]
    new = fires.claim(tx, rows)
    return [fire for fire in planned if (fire.schedule.id, fire.due_at) in new]


def _submit(tx: Tx, rules: RunRules, mine: Sequence[Fire]) -> list[Fire]:
    """Store the runs; those that cannot start are stored as failed. The ones that only now were refused."""
    good = [(fire, fire.run) for fire in mine if isinstance(fire.run, RunSpec)]
    late: list[Fire] = []
    for (fire, _), answer in zip(good, submissions.submit(tx, [spec for _, spec in good]), strict=True):
        if isinstance(answer, RunyardError):
            fire.run = answer
            late.append(fire)
    failed = FireOutcome.FAILED.value
    fires.settle(tx, [(f.schedule.id, f.due_at, failed, text_of(f.refusal)) for f in late if f.refusal])
    _store_failed(tx, rules, [fire for fire in mine if fire.refusal is not None])
    return late


def _store_failed(tx: Tx, rules: RunRules, failed: Sequence[Fire]) -> None:
    """Store runs that could not start: blocked by nothing but this, and failed in the same transaction."""
    if not failed:
        return
    submissions.submit(tx, [_failed_spec(fire, rules) for fire in failed])
    errors = {fire.task_id: error_of(fire.refusal) for fire in failed if fire.refusal is not None}
    changes = [
        Change(task_id, Event.FAIL, data={"error": error}, values={"error": error})
        for task_id, error in errors.items()
    ]
    move(tx, changes)


def _failed_spec(fire: Fire, rules: RunRules) -> RunSpec:
    schedule = fire.schedule
    stored = schedule.run["request"]
    text = stored.get("message", stored.get("query"))
    spec = RunSpec(
        task_id=fire.task_id,
        org_id=schedule.org_id,
        agent=AgentRef(schedule.org_id, schedule.agent_id, "", schedule.run["agent"], ""),
        front=schedule.front,
        input={name: stored[name] for name in ("args",) if name in stored}
        | ({"message": text} if text else {}),
        title=runs.title_of(text),
        end_user_id=schedule.end_user_id,
        created_by=schedule.created_by,
        key_id=schedule.key_id,
        schedule_id=schedule.id,
        meta=stored.get("metadata") or {},
        blocked_by=PREFLIGHT,
    )
    if isinstance(fire.run, RunSpec):
        return spec
    try:
        return replace(spec, callback=runs.callback_of(request_of(schedule, rules), rules.sealer))
    except RunyardError:
        return spec  # the reason for the failure: there is no receiver to call back


def error_of(refusal: RunyardError) -> JsonObject:
    """The `error` of a task that was refused when its time came."""
    error: JsonObject = {
        "code": refusal.code,
        "message": refusal.message,
        "cause": _cause(refusal).value,
        "attempt": 0,
    }
    return error | ({"details": {"field": refusal.field}} if refusal.field else {})


def _cause(refusal: RunyardError) -> Cause:
    if isinstance(refusal, TooManyRequests | PaymentRequired | Conflict):
        return Cause.LIMIT
    return Cause.INPUT if refusal.status < 500 else Cause.INFRASTRUCTURE


def text_of(refusal: RunyardError) -> str:
    """A refusal as the history of fires shows it."""
    return f"{refusal.code}: {refusal.message}"[:500]


def _advance(tx: Tx, plans: Sequence[Plan], mine: Sequence[Fire]) -> None:
    by_schedule: dict[str, list[Fire]] = {}
    for fire in mine:
        by_schedule.setdefault(fire.schedule.id, []).append(fire)
    advances: dict[str, Advance] = {}
    for made in plans:
        own = by_schedule.get(made.schedule.id, [])
        last = own[-1].task_id if own else None
        advances[made.schedule.id] = advance(made, tx.now, len(own), last)
    schedules.advance(tx, advances)


def settle(tx: Tx, schedule_ids: Iterable[str]) -> int:
    """Count the ends of these schedules' runs, pausing those that failed too often; how many were counted.

    A schedule that another process handles now is left to it.
    """
    locked = schedules.lock_free(tx, schedule_ids)
    open_runs = fires.open_runs(tx.conn, [s.id for s in locked])
    plans = [Plan(count_runs(s, open_runs.get(s.id, ())), handled=s.last_due_at) for s in locked]
    _settle(tx, plans)
    counted = 0
    for made in plans:
        counted += len(made.open_tasks.settled)
        schedule = made.schedule
        if not made.open_tasks.settled:
            continue
        values: dict[str, Any] = {"failures": made.open_tasks.failures}
        if schedule.enabled and made.open_tasks.pauses():
            values |= _paused(paused_reason(made.open_tasks.failures))
        schedules.change(tx, schedule.id, **values)
    return counted
