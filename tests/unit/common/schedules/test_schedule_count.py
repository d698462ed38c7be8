"""Counting due times by whole days gives what visiting each of them gives."""

from __future__ import annotations

import random

import pytest

from runyard_common.schedules.rules.catchup import count_due
from runyard_common.schedules.rules.schedule import CronSchedule, DateSchedule

LINES = ("*/20 * * * *", "30 2 * * *", "5 0-3 * * *", "0 12 1,15 * *", "*/45 23 * * 0", "0 0 * * *")
ZONES = ("UTC", "Europe/Berlin", "Africa/Cairo", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Asia/Gaza")


def visited(schedule: CronSchedule, after: float, until: float) -> int:
    count, due = 0, schedule.next_after(after)
    while due is not None and due <= until:
        count, due = count + 1, schedule.next_after(due)
    return count


@pytest.mark.parametrize("zone", ZONES)
def test_the_count_is_exact_over_days_on_which_clocks_shift(zone: str) -> None:
    rng = random.Random(zone)
    for line in LINES:
        schedule = CronSchedule(line, zone)
        after = rng.randint(1_293_840_000, 1_830_000_000)  # 2011 to 2027
        until = after + rng.choice((30, 4_000, 100_000, 250 * 86_400))
        assert count_due(schedule, after, until) == visited(schedule, after, until)


def test_the_ends_are_counted_as_later_than_one_and_not_later_than_the_other() -> None:
    hourly = CronSchedule("0 * * * *")
    assert count_due(hourly, 0, 3_600) == 1
    assert count_due(hourly, 0, 7 * 86_400) == 7 * 24
    assert count_due(hourly, 3_600, 3_600) == 0
    assert count_due(hourly, 7_200, 3_600) == 0


def test_a_single_moment_counts_once() -> None:
    moment = DateSchedule(100.0, "UTC", "…")
    assert [count_due(moment, after, 200.0) for after in (0.0, 99.0, 100.0)] == [1, 1, 0]
    assert count_due(moment, 0.0, 99.0) == 0
