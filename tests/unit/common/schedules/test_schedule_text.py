"""What callers write for a schedule: delays, dates, cron lines and zones, read or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_common.schedules.rules.schedule import CronSchedule, DateSchedule, DelaySchedule
from runyard_common.schedules.rules.schedule_text import MAX_DELAY_S, parse_schedule
from runyard_common.values.errors import ScheduleError

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def refused(value: Any, zone: Any = "UTC", *, catch_up: bool = False) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(value, zone, now=NOW, catch_up=catch_up, field="schedules[0].schedule")
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(10, 10.0), ("10", 10.0), (0.25, 0.25), (" 1.5 ", 1.5), ("1e3", 1000.0), (".5", 0.5), ("2025", 2025.0)],
)
def test_a_number_is_a_delay_from_now(value: object, seconds: float) -> None:
    assert parse_schedule(value, now=NOW) == DelaySchedule(NOW + seconds, "UTC", seconds)


@pytest.mark.parametrize(
    "value", [0, -1, -0.5, "0", "-3", float("nan"), "NaN", float("-inf"), "-inf", -(10**400)]
)
def test_a_delay_that_is_not_above_0_is_refused(value: object) -> None:
    error = refused(value)
    assert (error.code, error.field) == ("bad_delay", "schedules[0].schedule")
    assert "above 0" in error.message


@pytest.mark.parametrize("value", [MAX_DELAY_S + 1, NOW, "1e400", float("inf"), "Infinity", 10**400, 1.8e12])
def test_a_delay_of_more_than_ten_years_is_refused(value: object) -> None:
    error = refused(value)
    assert error.code == "delay_too_long"
    assert "give a date" in error.message


@pytest.mark.parametrize("value", [None, True, False, [], {}, ["* * * * *"], b"10"])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    error = refused(value)
    assert error.code == "bad_schedule"
    assert type(value).__name__ in error.message


@pytest.mark.parametrize("value", ["", "   ", "tomorrow", "P1D", "10s", "12:30"])
def test_a_word_is_refused_with_the_forms_to_use(value: str) -> None:
    error = refused(value)
    assert error.code == "bad_schedule"
    assert "ISO 8601" in error.message


@pytest.mark.parametrize(
    ("text", "zone", "at"),
    [
        ("2027-02-01", "UTC", 1_801_440_000.0),
        ("2027-02-01", "Europe/Berlin", 1_801_436_400.0),
        ("2027-02-01T09:30", "America/New_York", 1_801_492_200.0),
        ("2027-02-01 09:30:15.5", "UTC", 1_801_474_215.5),
        ("2027-02-01T09:30:00Z", "America/New_York", 1_801_474_200.0),
        ("2027-02-01T09:30:00+05:45", "America/New_York", 1_801_453_500.0),
        ("20270201T0930", "UTC", 1_801_474_200.0),
        ("2027-03-28T02:30", "Europe/Berlin", 1_806_195_600.0),  # skipped: 03:00 summer time, after the jump
        ("2027-10-31T02:30", "Europe/Berlin", 1_824_942_600.0),  # doubled: the first pass, in summer time
    ],
)
def test_a_date_is_read_on_the_clocks_of_the_zone(text: str, zone: str, at: float) -> None:
    assert parse_schedule(text, zone, now=NOW) == DateSchedule(at, zone, text)


@pytest.mark.parametrize(
    "text", ["2025-01-01", "2027-01-15T07:59:59Z", "1970-01-01", "1969-12-31", "0001-01-01"]
)
def test_a_past_date_is_refused(text: str) -> None:
    assert refused(text).code == "date_in_past"


def test_a_past_date_is_read_when_catching_up() -> None:
    assert parse_schedule("2025-01-01", now=NOW, catch_up=True).first_due(NOW) == 1_735_689_600.0
    assert refused("1969-12-31", catch_up=True).code == "date_in_past"


@pytest.mark.parametrize("text", ["9999-12-31", "9999-12-31T23:59:59-14:00", "2128-01-01"])
def test_a_date_more_than_a_hundred_years_ahead_is_refused(text: str) -> None:
    assert refused(text).code == "date_too_far"


@pytest.mark.parametrize(
    "text",
    ["2027-02-30", "2027-13-01", "2027-02-01T25:00", "2027-02-01T09:30 CET", "10000-01-01", "2027-02-"],
)
def test_a_date_that_is_not_on_the_calendar_is_refused(text: str) -> None:
    error = refused(text)
    assert error.code == "bad_date"
    assert "2030-01-31T09:00" in error.message


def test_a_line_is_a_cron_schedule_in_its_zone() -> None:
    assert parse_schedule("  0  9 * *  mon ", "Asia/Tokyo", now=NOW) == CronSchedule(
        "0 9 * * mon", "Asia/Tokyo"
    )
    assert parse_schedule("@daily", now=NOW) == CronSchedule("@daily", "UTC")


@pytest.mark.parametrize(
    ("line", "code"),
    [("0 0 30 2 *", "cron_never_fires"), ("* * * * * *", "bad_cron"), ("61 * * * *", "bad_cron")],
)
def test_a_bad_line_is_refused(line: str, code: str) -> None:
    assert (refused(line).code, refused(line).field) == (code, "schedules[0].schedule")


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("europe/berlin", "Did you mean 'Europe/Berlin'?"),
        ("Berlin", "Did you mean 'Europe/Berlin'?"),
        ("America/New York", "Did you mean 'America/New_York'?"),
        ("+02:00", "not an offset"),
        ("localtime", "Give a name"),
        ("../../etc/passwd", "Give a name"),
        ("Europe", "IANA"),
        ("", "IANA"),
        (None, "IANA"),
        (2, "IANA"),
        ("Europe/Berlin\0", "IANA"),
        ("x" * 5_000, "IANA"),
    ],
)
def test_a_bad_zone_is_refused(zone: object, expected: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(10, zone, now=NOW, timezone_field="tz")  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.field) == ("bad_timezone", "tz")
    assert expected in caught.value.message
    assert len(caught.value.message) < 300


@given(st.one_of(st.text(max_size=30), st.floats(), st.integers(), st.none(), st.booleans()))
def test_any_value_is_read_or_refused_and_never_breaks(value: object) -> None:
    first_due: float | None = None
    refusal: ScheduleError | None = None
    try:
        first_due = parse_schedule(value, "Pacific/Apia", now=NOW).first_due(NOW)
    except ScheduleError as error:
        refusal = error
    assert (first_due is None) != (refusal is None)
    assert refusal is None or (refusal.message and refusal.field == "schedule")
