"""When schedules are due: ordinary days, rare days, and the days clocks shift."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from runyard_common.schedules.rules.schedule import (
    CronSchedule,
    DateSchedule,
    DelaySchedule,
    Schedule,
    schedule_from_json,
)
from runyard_common.values.errors import ScheduleError


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def dues(line: str, zone: str, after: str, count: int) -> list[str]:
    """The next `count` due times, as the zone's clocks show them."""
    schedule, instant = CronSchedule(line, zone), at(after)
    shown = []
    for _ in range(count):
        due = schedule.next_after(instant)
        assert due is not None
        assert due > instant
        shown.append(datetime.fromtimestamp(due, schedule.zone).strftime("%m-%d %H:%M%z"))
        instant = due
    return shown


def test_the_next_due_time_is_later_than_the_instant_however_little() -> None:
    noon = at("2026-05-01T12:00:00+00:00")
    schedule = CronSchedule("0 12 * * *")
    assert schedule.next_after(noon - 0.000001) == noon
    assert schedule.next_after(noon) == noon + 86_400
    assert schedule.next_after(noon + 0.5) == noon + 86_400


def test_a_time_of_day_follows_the_zone_through_the_year() -> None:
    assert dues("0 9 1 */6 *", "Europe/Berlin", "2026-05-01T00:00:00+00:00", 2) == [
        "07-01 09:00+0200",
        "01-01 09:00+0100",
    ]


def test_a_time_of_day_in_a_skipped_hour_fires_once_right_after_the_jump() -> None:
    assert dues("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00+01:00", 3) == [
        "03-28 02:30+0100",
        "03-29 03:00+0200",
        "03-30 02:30+0200",
    ]


def test_several_times_of_day_in_one_skipped_hour_fire_together_once() -> None:
    assert dues("0,20,40 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00+01:00", 3) == [
        "03-29 03:00+0200",
        "03-29 03:20+0200",
        "03-29 03:40+0200",
    ]


def test_a_time_of_day_in_a_doubled_hour_fires_on_the_first_pass_only() -> None:
    assert dues("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00+02:00", 2) == [
        "10-25 02:30+0200",
        "10-26 02:30+0100",
    ]
    assert dues("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10:00+01:00", 1) == ["10-26 02:30+0100"]


def test_an_interval_runs_on_elapsed_time_through_both_shifts() -> None:
    assert dues("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:15:00+01:00", 3) == [
        "03-29 01:30+0100",
        "03-29 03:00+0200",
        "03-29 03:30+0200",
    ]
    assert dues("*/30 * * * *", "Europe/Berlin", "2026-10-25T02:15:00+02:00", 4) == [
        "10-25 02:30+0200",
        "10-25 02:00+0100",
        "10-25 02:30+0100",
        "10-25 03:00+0100",
    ]


def test_an_interval_limited_to_the_skipped_hour_is_left_out_that_day() -> None:
    assert dues("*/30 2 * * *", "Europe/Berlin", "2026-03-28T02:30:00+01:00", 1) == ["03-30 02:00+0200"]


def test_an_interval_limited_to_the_doubled_hour_goes_through_it_twice() -> None:
    assert dues("*/40 1 * 11 *", "America/New_York", "2026-11-01T00:00:00-04:00", 5) == [
        "11-01 01:00-0400",
        "11-01 01:40-0400",
        "11-01 01:00-0500",
        "11-01 01:40-0500",
        "11-02 01:00-0500",
    ]


def test_an_interval_seen_late_in_the_first_pass_still_gets_its_second_pass() -> None:
    assert dues("*/59 1 1 11 *", "America/New_York", "2026-11-01T01:59:30-04:00", 2) == [
        "11-01 01:00-0500",
        "11-01 01:59-0500",
    ]


def test_midnight_itself_can_be_skipped() -> None:
    assert dues("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00+02:00", 2) == [
        "04-24 01:00+0300",
        "04-25 00:00+0300",
    ]


def test_a_shift_of_half_an_hour_counts_as_any_other() -> None:
    assert dues("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", 1) == ["10-04 02:30+1100"]
    assert dues("*/15 1 * * *", "Australia/Lord_Howe", "2026-04-05T01:40:00+11:00", 3) == [
        "04-05 01:45+1100",
        "04-05 01:30+1030",
        "04-05 01:45+1030",
    ]


def test_a_day_the_calendar_left_out_fires_once_when_the_next_one_begins() -> None:
    assert dues("30 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00-10:00", 2) == [
        "12-31 00:00+1400",
        "12-31 09:30+1400",
    ]


def test_rare_days_are_found() -> None:
    leap = CronSchedule("0 0 29 2 *").next_after(at("2096-03-01T00:00:00+00:00"))
    assert leap == at("2104-02-29T00:00:00+00:00")  # 2100 is no leap year
    fifth_monday = CronSchedule("0 0 * 2 mon#5").next_after(at("2026-01-01T00:00:00+00:00"))
    assert fifth_monday == at("2044-02-29T00:00:00+00:00")


@pytest.mark.parametrize("instant", [1e12, float("inf")])
def test_no_line_is_due_after_the_end_of_the_calendar(instant: float) -> None:
    assert CronSchedule("* * * * *", "Pacific/Kiritimati").next_after(instant) is None


@pytest.mark.parametrize("instant", [-1e12, float("-inf"), -1.0])
def test_no_line_is_due_before_1970(instant: float) -> None:
    assert CronSchedule("* * * * *").next_after(instant) == 0.0


@pytest.mark.parametrize(
    "schedule", [DateSchedule(100.0, "UTC", "1970-01-01T00:01:40"), DelaySchedule(100.0, "UTC", 40.0)]
)
def test_a_single_moment_is_due_once(schedule: Schedule) -> None:
    assert schedule.next_after(99.9) == 100.0
    assert schedule.next_after(100.0) is None
    assert schedule.first_due(5_000.0) == 100.0


@pytest.mark.parametrize(
    "schedule",
    [
        CronSchedule("*/5 * L * *", "Asia/Kolkata"),
        DateSchedule(1_800_000_000.5, "Europe/Paris", "2027-01-15T09:00:00.5"),
        DelaySchedule(1_800_000_000.5, "UTC", 0.5),
    ],
)
def test_a_schedule_survives_json(schedule: Schedule) -> None:
    assert schedule_from_json(json.loads(json.dumps(schedule.to_json()))) == schedule


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "bad_schedule"),
        ({"kind": "moon", "at": 1.0, "timezone": "UTC"}, "bad_schedule"),
        ({"kind": "delay", "at": "soon", "seconds": 1, "timezone": "UTC"}, "bad_schedule"),
        ({"kind": "date", "at": float("nan"), "text": "", "timezone": "UTC"}, "bad_schedule"),
        ({"kind": "cron", "expression": "* * *", "timezone": "UTC"}, "bad_cron"),
        ({"kind": "cron", "expression": "* * * * *", "timezone": "Mars/Olympus"}, "bad_timezone"),
    ],
)
def test_json_that_no_schedule_wrote_is_refused(value: dict[str, Any], code: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        schedule_from_json(value)
    assert caught.value.code == code
