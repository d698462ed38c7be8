"""What becomes of a schedule whose time has come: the runs to make, the times left out, what to store. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from runyard_common.runs.rules.lifecycle import TERMINAL, Status
from runyard_common.schedules.rules.policies import (
    MAX_QUEUED,
    Overlap,
    OverlapDecision,
    decide_overlap,
    failures_in_a_row,
)
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.schedules.rules.timezones import utc_text


class FireOutcome(StrEnum):
    """What a due time came to."""

    FIRED = "fired"  # its run has not ended yet
    COMPLETED = "completed"  # its run has
    FAILED = "failed"  # its run has, or could not even start
    STOPPED = "stopped"  # its run was
    SKIPPED = "skipped"  # left out by the overlap policy, or because its organisation is deactivated
    BACKFILLED = "backfilled"  # passed without a run; one was made for it later
    MISSED = "missed"  # passed while no scheduler ran; the row counts for all times up to the next row


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run of a schedule whose end has not been counted. `status` None: its task is no longer kept."""

    due_at: float
    task_id: str
    status: Status | None
    queued: bool = False  # queued behind an earlier run of its schedule

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.status is None or self.status in TERMINAL


@dataclass(slots=True)
class OpenTasks:
    """The runs of a schedule, with those that have ended counted."""

    schedule: StoredSchedule
    failures: int
    active: list[OpenRun] = field(default_factory=list)
    queued: list[OpenRun] = field(default_factory=list)
    settled: list[tuple[float, FireOutcome]] = field(default_factory=list)

    def pauses(self) -> bool:
        """Whether it has failed often enough to pause."""
        return self.schedule.lifetime.pauses(self.failures)

    def failed(self) -> None:
        """Count a run that failed."""
        self.failures = failures_in_a_row(self.failures, succeeded=False)


def count_runs(schedule: StoredSchedule, runs: Sequence[OpenRun]) -> OpenTasks:
    """Count the ends of `runs`, in the order of their due times."""
    open_tasks = OpenTasks(schedule, schedule.failures)
    for run in sorted(runs, key=lambda run: run.due_at):
        if not run.ended:
            (open_tasks.queued if run.queued else open_tasks.active).append(run)
            continue
        outcome = FireOutcome(run.status.value) if run.status else FireOutcome.STOPPED
        open_tasks.settled.append((run.due_at, outcome))
        if outcome is not FireOutcome.STOPPED:
            succeeded = outcome is FireOutcome.COMPLETED
            open_tasks.failures = failures_in_a_row(open_tasks.failures, succeeded=succeeded)
    return open_tasks


@dataclass(slots=True)
class Plan:
    """What is done about one schedule now."""

    open_tasks: OpenTasks
    left_out: list[tuple[float, FireOutcome, str]] = field(default_factory=list)
    to_cancel: list[str] = field(
        default_factory=list
    )  # tasks; their schedule stays due until they have ended
    handled: float | None = None  # the newest due time this plan decides
    following: tuple[int, float | None] | None = None  # if so many runs are made, this is the next due time

    @property
    def schedule(self) -> StoredSchedule:
        """The schedule as it was read."""
        return self.open_tasks.schedule


#: Makes the run of a due time, `queued` behind the earlier ones or not; False when it fails before it starts.
Start = Callable[[float, bool], bool]


def plan(open_tasks: OpenTasks, now: float, limit: int, start: Start) -> Plan:
    """Decide the due times of a schedule at `now`, and `start` at most `limit` runs; the rest stays due."""
    schedule = open_tasks.schedule
    made = Plan(open_tasks, handled=schedule.last_due_at)
    if open_tasks.pauses():
        return made
    due = schedule.due(now, limit)
    if due.skipped and schedule.next_due_at is not None and schedule.next_due_at not in due.fires:
        made.left_out.append((schedule.next_due_at, FireOutcome.MISSED, _missed(due.skipped, now)))
    active, queued = len(open_tasks.active), len(open_tasks.queued)
    for at in due.fires:
        decision = decide_overlap(schedule.overlap, active=active, queued=queued)
        if decision is OverlapDecision.STOP_AND_START:
            made.to_cancel = [run.task_id for run in (*open_tasks.active, *open_tasks.queued)]
            return made
        made.handled = at
        if decision is OverlapDecision.SKIP:
            made.left_out.append((at, FireOutcome.SKIPPED, _overlapped(schedule, active)))
            continue
        behind = decision is OverlapDecision.QUEUE
        if start(at, behind):
            active, queued = active + (not behind), queued + behind
            continue
        open_tasks.failed()
        if open_tasks.pauses():
            return made
    made.handled = due.last_due
    made.following = (len(due.fires), due.next_due)
    return made


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a schedule has come: the columns that firing it changes."""

    last_due_at: float | None
    next_due_at: float | None
    wake_at: float | None
    fired: int
    failures: int
    enabled: bool
    paused_reason: str | None
    finished_at: float | None
    last_task_id: str | None


def advance(made: Plan, now: float, fired: int, last_task_id: str | None) -> Advance:
    """How far a schedule has come once `fired` runs were made for it."""
    schedule, open_tasks = made.schedule, made.open_tasks
    total = schedule.fired + fired
    if made.following is not None and made.following[0] == fired:
        following = made.following[1]
    else:
        following = schedule.first_after(made.handled, total)
    finished = following is None
    paused = open_tasks.pauses() and not finished
    active = not (finished or paused)
    return Advance(
        last_due_at=made.handled,
        next_due_at=following if active else None,
        wake_at=schedule.jitter.release_at(following) if active and following is not None else None,
        fired=total,
        failures=open_tasks.failures,
        enabled=active,
        paused_reason=paused_reason(open_tasks.failures) if paused else None,
        finished_at=now if finished else None,
        last_task_id=last_task_id or schedule.last_task_id,
    )


def paused_reason(failures: int) -> str:
    """Why a schedule paused by itself."""
    return f"{failures} runs in a row failed" if failures > 1 else "its run failed"


def _overlapped(schedule: StoredSchedule, active: int) -> str:
    if schedule.overlap is Overlap.QUEUE:
        return f"{MAX_QUEUED} earlier runs wait already"
    return "an earlier run has not ended" if active else "an earlier run waits"


def _missed(count: int, now: float) -> str:
    times = "1 due time" if count == 1 else f"{count} due times"
    return f"{times} passed before {utc_text(now)} while no scheduler could fire them"
