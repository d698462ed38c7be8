"""Which due times fire after an outage, a suspended machine or a clock that was set."""

from __future__ import annotations

from datetime import datetime

import pytest

from runyard_common.schedules.rules.catchup import CatchUp, DueFires, default_window_s, due_fires
from runyard_common.schedules.rules.policies import Jitter, Lifetime
from runyard_common.schedules.rules.schedule import CronSchedule, DateSchedule, DelaySchedule

NOON = datetime.fromisoformat("2026-05-01T12:00:00+00:00").timestamp()
HOUR, DAY = 3_600.0, 86_400.0
EVERY_MINUTE = CronSchedule("* * * * *")
HOURLY = CronSchedule("0 * * * *")
ALL_POLICIES = pytest.mark.parametrize("policy", list(CatchUp))


def minutes(first: int, last: int) -> tuple[float, ...]:
    """Noon plus each of these minutes."""
    return tuple(NOON + 60.0 * minute for minute in range(first, last + 1))


@ALL_POLICIES
def test_nothing_fires_before_its_time(policy: CatchUp) -> None:
    assert due_fires(HOURLY, NOON, NOON + 3_599.9, DAY, policy) == DueFires(
        (), 0, NOON, NOON + HOUR, NOON + HOUR, 0.0
    )


@ALL_POLICIES
def test_a_due_time_fires_at_its_instant_and_however_little_late(policy: CatchUp) -> None:
    for late in (0.0, 0.4, 59.9):
        decided = due_fires(HOURLY, NOON, NOON + HOUR + late, DAY, policy)
        assert (decided.fires, decided.skipped, decided.last_due) == ((NOON + HOUR,), 0, NOON + HOUR)
        assert decided.next_due == NOON + 2 * HOUR


def test_a_minute_late_is_missed() -> None:
    assert due_fires(HOURLY, NOON, NOON + HOUR + 60.0, DAY, CatchUp.NONE).fires == ()
    assert due_fires(HOURLY, NOON, NOON + HOUR + 60.0, 0.0, CatchUp.ALL).fires == ()


def test_an_hours_outage_under_all_fires_every_missed_minute() -> None:
    decided = due_fires(EVERY_MINUTE, NOON, NOON + HOUR + 5, DAY, CatchUp.ALL)
    assert decided == DueFires(minutes(1, 60), 0, NOON + HOUR, NOON + HOUR + 60, NOON + HOUR + 60, 0.0)


def test_an_hours_outage_under_last_fires_the_newest_minute() -> None:
    decided = due_fires(EVERY_MINUTE, NOON, NOON + HOUR + 5, DAY, CatchUp.LAST)
    assert (decided.fires, decided.skipped) == (minutes(60, 60), 59)
    assert decided.last_due == NOON + HOUR


def test_an_hours_outage_under_none_fires_only_the_minute_that_is_on_time() -> None:
    decided = due_fires(EVERY_MINUTE, NOON, NOON + HOUR + 5, DAY, CatchUp.NONE)
    assert (decided.fires, decided.skipped) == (minutes(60, 60), 59)


def test_a_missed_hourly_fire_is_made_up_for_unless_the_policy_is_none() -> None:
    now = NOON + 3.5 * HOUR
    last = due_fires(HOURLY, NOON, now, DAY, CatchUp.LAST)
    none = due_fires(HOURLY, NOON, now, DAY, CatchUp.NONE)
    every = due_fires(HOURLY, NOON, now, DAY, CatchUp.ALL)
    assert (last.fires, last.skipped) == ((NOON + 3 * HOUR,), 2)
    assert (none.fires, none.skipped) == ((), 3)
    assert (every.fires, every.skipped) == ((NOON + HOUR, NOON + 2 * HOUR, NOON + 3 * HOUR), 0)
    assert last.last_due == none.last_due == every.last_due == NOON + 3 * HOUR


def test_missed_times_older_than_the_window_are_skipped() -> None:
    now = NOON + 10.5 * HOUR
    every = due_fires(HOURLY, NOON, now, 2.5 * HOUR, CatchUp.ALL)
    assert (every.fires, every.skipped) == (tuple(NOON + n * HOUR for n in (8, 9, 10)), 7)
    last = due_fires(HOURLY, NOON, now, 0.25 * HOUR, CatchUp.LAST)
    assert (last.fires, last.skipped) == ((), 10)


def test_under_all_a_limit_leaves_the_rest_due() -> None:
    now = NOON + HOUR + 5
    handled: float | None = NOON
    fired: list[float] = []
    for _ in range(6):
        decided = due_fires(EVERY_MINUTE, handled, now, DAY, CatchUp.ALL, limit=12)
        handled = decided.last_due
        fired += decided.fires
        assert decided.skipped == 0
    assert tuple(fired) == minutes(1, 60)
    assert decided.fires == ()


@ALL_POLICIES
def test_a_clock_set_back_fires_nothing_twice(policy: CatchUp) -> None:
    first = due_fires(EVERY_MINUTE, NOON, NOON + 61, DAY, policy)
    assert first.fires == minutes(1, 1)
    back = due_fires(EVERY_MINUTE, first.last_due, NOON - HOUR, DAY, policy)
    assert (back.fires, back.last_due, back.next_due) == ((), NOON + 60, NOON + 120)
    assert back.clock_behind_s == HOUR + 60
    again = due_fires(EVERY_MINUTE, back.last_due, NOON + 119.9, DAY, policy)
    assert again.fires == ()
    assert due_fires(EVERY_MINUTE, again.last_due, NOON + 120, DAY, policy).fires == minutes(2, 2)


def test_a_clock_set_forward_by_years_fires_once_under_last() -> None:
    decided = due_fires(EVERY_MINUTE, NOON, NOON + 20 * 365 * DAY, DAY, CatchUp.LAST)
    assert decided.fires == (NOON + 20 * 365 * DAY,)
    assert decided.skipped == 20 * 365 * 1440 - 1


def test_a_new_cron_schedule_counts_from_its_creation() -> None:
    assert due_fires(HOURLY, None, NOON + 10, DAY, CatchUp.ALL, since=NOON + 5).fires == ()
    decided = due_fires(HOURLY, None, NOON + HOUR + 10, DAY, CatchUp.ALL, since=NOON + 5)
    assert (decided.fires, decided.skipped) == ((NOON + HOUR,), 0)
    with pytest.raises(ValueError, match="since"):
        due_fires(HOURLY, None, NOON, DAY, CatchUp.ALL)


@pytest.mark.parametrize("policy", [CatchUp.LAST, CatchUp.ALL])
def test_a_single_moment_fires_however_late_and_then_the_schedule_is_finished(policy: CatchUp) -> None:
    schedule = DelaySchedule(NOON, "UTC", 10.0)
    decided = due_fires(schedule, None, NOON + 400 * DAY, default_window_s(schedule), policy)
    assert (decided.fires, decided.skipped, decided.last_due, decided.finished) == ((NOON,), 0, NOON, True)
    after = due_fires(schedule, decided.last_due, NOON + 401 * DAY, default_window_s(schedule), policy)
    assert (after.fires, after.finished) == ((), True)


def test_a_missed_single_moment_is_skipped_under_none() -> None:
    decided = due_fires(DateSchedule(NOON, "UTC", "…"), None, NOON + 61, DAY, CatchUp.NONE)
    assert (decided.fires, decided.skipped, decided.finished) == ((), 1, True)


def test_the_end_date_is_the_last_moment_that_fires() -> None:
    ends = Lifetime(end_at=NOON + 2 * HOUR)
    decided = due_fires(HOURLY, NOON, NOON + 9 * HOUR, DAY, CatchUp.ALL, lifetime=ends)
    assert (decided.fires, decided.finished) == ((NOON + HOUR, NOON + 2 * HOUR), True)
    newest = due_fires(HOURLY, NOON, NOON + 9 * HOUR, DAY, CatchUp.LAST, lifetime=ends)
    assert (newest.fires, newest.skipped) == ((NOON + 2 * HOUR,), 1)


def test_a_schedule_stops_after_its_number_of_fires() -> None:
    thrice = Lifetime(max_fires=3)
    decided = due_fires(HOURLY, NOON, NOON + 9 * HOUR, DAY, CatchUp.ALL, lifetime=thrice, fired=1)
    assert (decided.fires, decided.finished) == ((NOON + HOUR, NOON + 2 * HOUR), True)
    spent = due_fires(HOURLY, NOON, NOON + 9 * HOUR, DAY, CatchUp.ALL, lifetime=thrice, fired=3)
    assert (spent.fires, spent.finished) == ((), True)


@ALL_POLICIES
def test_jitter_delays_the_release_and_not_the_due_time(policy: CatchUp) -> None:
    jitter = Jitter("sched_1", 600.0)
    release = jitter.release_at(NOON + HOUR)
    early = due_fires(HOURLY, NOON, release - 0.001, DAY, policy, jitter=jitter)
    assert (early.fires, early.next_due, early.wake_at) == ((), NOON + HOUR, release)
    decided = due_fires(HOURLY, NOON, release, DAY, policy, jitter=jitter)
    assert decided.fires == (NOON + HOUR,)
    assert decided.wake_at == jitter.release_at(NOON + 2 * HOUR)


def test_with_jitter_the_newest_released_time_replaces_the_missed_ones() -> None:
    jitter = Jitter("sched_1", 300.0)
    decided = due_fires(
        CronSchedule("*/10 * * * *"), NOON, NOON + HOUR + 299.9, DAY, CatchUp.LAST, jitter=jitter
    )
    assert (decided.fires, decided.skipped) == ((NOON + HOUR,), 5)


def test_a_limit_below_1_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="limit"):
        due_fires(HOURLY, NOON, NOON, DAY, CatchUp.ALL, limit=0)


def test_the_table_in_the_documentation_holds() -> None:
    def ten_minutes(policy: CatchUp) -> DueFires:
        return due_fires(CronSchedule("*/10 * * * *"), NOON, NOON + 65 * 60, DAY, policy)

    assert ten_minutes(CatchUp.NONE).fires == ()
    assert ten_minutes(CatchUp.NONE).next_due == NOON + 70 * 60
    assert ten_minutes(CatchUp.LAST).fires == (NOON + 60 * 60,)
    assert ten_minutes(CatchUp.ALL).fires == tuple(NOON + 600.0 * n for n in range(1, 7))
