"""What becomes of a schedule whose time has come: plans, standings and the advance they set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runyard_common.runs.rules.lifecycle import Status
from runyard_common.schedules.rules.catchup import CatchUp
from runyard_common.schedules.rules.firing import FireOutcome, OpenRun, Plan, advance, count_runs, plan
from runyard_common.schedules.rules.policies import Overlap
from runyard_common.schedules.rules.schedule import CronSchedule
from runyard_common.schedules.rules.stored_schedule import ScheduleState, StoredSchedule

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
MINUTE = 60.0


def schedule(expression: str = "*/10 * * * *", **values: Any) -> StoredSchedule:
    """A schedule made at noon."""
    row = StoredSchedule(
        id="s", org_id="o", agent_id="a", name=None, front="native", external_id=None, kind="cron",
        spec=CronSchedule(expression).to_json(), timezone="UTC", run={"request": {}, "agent": "@t/a"}, secrets=None,
        enabled=True, paused_reason=None, overlap=Overlap.ALLOW, catch_up=CatchUp.ALL, catch_up_window_s=86_400.0,
        jitter_s=0.0, end_at=None, max_fires=None, fired=0, pause_after_failures=None, failures=0, last_due_at=None,
        next_due_at=NOON + 10 * MINUTE, wake_at=NOON + 10 * MINUTE, last_task_id=None, created_by=None, key_id=None,
        end_user_id=None, meta=None, created_at=NOON, updated_at=NOON, finished_at=None,
    )  # fmt: skip
    return replace(row, **values)


class Runs:
    """Notes what is started; the due times in `doomed` fail before they start."""

    def __init__(self, *doomed: float) -> None:
        self.started: list[tuple[float, bool]] = []
        self._doomed = doomed

    def __call__(self, due_at: float, queued: bool) -> bool:
        self.started.append(((due_at - NOON) / MINUTE, queued))
        return (due_at - NOON) / MINUTE not in self._doomed


def planned(row: StoredSchedule, minutes: float, runs: Runs, *open_runs: OpenRun, limit: int = 10) -> Plan:
    return plan(count_runs(row, open_runs), NOON + minutes * MINUTE, limit, runs)


def test_each_missed_time_starts_a_run_oldest_first() -> None:
    runs = Runs()
    made = planned(schedule(), 35, runs)
    assert runs.started == [(10, False), (20, False), (30, False)]
    row = advance(made, NOON + 35 * MINUTE, 3, "t")
    assert (row.last_due_at, row.next_due_at) == (NOON + 30 * MINUTE, NOON + 40 * MINUTE)
    assert (row.fired, row.enabled, row.last_task_id, row.finished_at) == (3, True, "t", None)


def test_what_does_not_fit_into_one_plan_stays_due() -> None:
    runs = Runs()
    made = planned(schedule(), 35, runs, limit=2)
    assert advance(made, NOON, 2, None).next_due_at == NOON + 30 * MINUTE


def test_a_run_that_fails_before_it_starts_overlaps_nothing() -> None:
    runs = Runs(10)
    made = planned(schedule(overlap=Overlap.SKIP), 25, runs)
    assert runs.started == [(10, False), (20, False)]
    assert made.left_out == []
    assert made.open_tasks.failures == 1


def test_the_failure_that_pauses_leaves_the_later_times_undecided() -> None:
    runs = Runs(10, 20, 30)
    made = planned(schedule(pause_after_failures=2), 35, runs)
    assert runs.started == [(10, False), (20, False)]
    row = advance(made, NOON, 2, None)
    assert (row.enabled, row.next_due_at, row.wake_at) == (False, None, None)
    assert (row.paused_reason, row.last_due_at) == ("2 runs in a row failed", NOON + 20 * MINUTE)


def test_a_schedule_that_has_failed_enough_plans_nothing() -> None:
    failed = [OpenRun(NOON - MINUTE, "t", Status.FAILED)]
    runs = Runs()
    made = planned(schedule(pause_after_failures=1), 35, runs, *failed)
    assert runs.started == []
    assert advance(made, NOON, 0, None).paused_reason == "its run failed"


def test_ends_count_in_the_order_of_their_due_times() -> None:
    ended = {3.0: Status.FAILED, 1.0: Status.FAILED, 2.0: Status.COMPLETED, 4.0: Status.STOPPED}
    open_tasks = count_runs(schedule(), [OpenRun(at, f"t{at}", status) for at, status in ended.items()])
    assert open_tasks.failures == 1
    assert [outcome for _, outcome in open_tasks.settled] == ["failed", "completed", "failed", "stopped"]


def test_a_run_whose_task_is_no_longer_kept_reports_no_failure() -> None:
    open_tasks = count_runs(schedule(failures=2), [OpenRun(1.0, "gone", None)])
    assert (open_tasks.failures, open_tasks.settled) == (2, [(1.0, FireOutcome.STOPPED)])


@pytest.mark.parametrize(
    ("overlap", "started", "left_out"),
    [
        (Overlap.SKIP, [], ["skipped"]),
        (Overlap.QUEUE, [(10, True)], []),
        (Overlap.ALLOW, [(10, False)], []),
        (Overlap.STOP_RUNNING, [], []),
    ],
)
def test_a_run_under_way_meets_the_overlap_policy(
    overlap: Overlap, started: list[tuple[float, bool]], left_out: list[str]
) -> None:
    runs = Runs()
    made = planned(schedule(overlap=overlap), 10, runs, OpenRun(NOON, "t", Status.RUNNING))
    assert runs.started == started
    assert [outcome for _, outcome, _ in made.left_out] == left_out
    stopping = overlap is Overlap.STOP_RUNNING
    assert made.to_cancel == (["t"] if stopping else [])
    next_due = advance(made, NOON, len(started), None).next_due_at
    assert next_due == NOON + (10 if stopping else 20) * MINUTE  # what stops first stays due


def test_a_left_out_time_is_no_fire_of_a_counted_schedule() -> None:
    row = schedule(overlap=Overlap.SKIP, max_fires=1)
    made = planned(row, 10, Runs(), OpenRun(NOON, "t", Status.RUNNING))
    assert advance(made, NOON, 0, None).next_due_at == NOON + 20 * MINUTE


def test_the_last_fire_finishes_the_schedule() -> None:
    made = planned(schedule(max_fires=1), 10, Runs())
    row = advance(made, NOON + 600, 1, "t")
    assert (row.finished_at, row.enabled, row.next_due_at) == (NOON + 600, False, None)
    assert row.paused_reason is None


def test_missed_times_are_one_row_with_how_many() -> None:
    made = planned(schedule(catch_up=CatchUp.NONE), 35, Runs())
    ((at, outcome, reason),) = made.left_out
    assert (at, outcome) == (NOON + 10 * MINUTE, FireOutcome.MISSED)
    assert reason.startswith("3 due times passed before 2026-06-01T12:35:00Z")


def test_a_schedule_is_active_paused_or_finished() -> None:
    assert schedule().state is ScheduleState.ACTIVE
    assert schedule(enabled=False).state is ScheduleState.PAUSED
    assert schedule(enabled=False, finished_at=NOON).state is ScheduleState.FINISHED
