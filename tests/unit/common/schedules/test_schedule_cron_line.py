"""Reading cron lines: what each form names, and the refusals."""

from __future__ import annotations

import string
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runyard_common.schedules.rules.cron_line import ALIASES, read_cron
from runyard_common.values.errors import ScheduleError
from tests.generated import EXAMPLES


@pytest.mark.parametrize(
    ("line", "minutes"),
    [
        ("7 * * * *", (7,)),
        ("5,3,5 * * * *", (3, 5)),
        ("10-13 * * * *", (10, 11, 12, 13)),
        ("10-20/4 * * * *", (10, 14, 18)),
        ("*/25 * * * *", (0, 25, 50)),
        ("*/60 * * * *", (0,)),
        ("40/7 * * * *", (40, 47, 54)),
        ("5-5 * * * *", (5,)),
        ("5-5/3 * * * *", (5,)),
        ("58-1 * * * *", (0, 1, 58, 59)),
    ],
)
def test_the_minute_field_names_these_minutes(line: str, minutes: tuple[int, ...]) -> None:
    assert read_cron(line).minutes == minutes


def test_months_and_weekdays_have_names_in_any_case() -> None:
    assert read_cron("0 0 * Jan,MAR-may *").months == (1, 3, 4, 5)
    assert read_cron("0 0 * * Mon-FRI").day_rule.weekdays == frozenset({1, 2, 3, 4, 5})


@pytest.mark.parametrize(
    ("field", "weekdays"),
    [
        ("0", {0}),
        ("7", {0}),
        ("5-7", {5, 6, 0}),
        ("0-7", {0, 1, 2, 3, 4, 5, 6}),
        ("1-7/2", {1, 3, 5, 0}),
        ("7-2", {0, 1, 2}),
        ("7-0", {0}),
        ("sat-sun", {6, 0}),
        ("*/2", {0, 2, 4, 6}),
        ("5/1", {5, 6}),
    ],
)
def test_0_and_7_are_both_sunday(field: str, weekdays: set[int]) -> None:
    assert read_cron(f"0 0 * * {field}").day_rule.weekdays == weekdays


@pytest.mark.parametrize(
    ("line", "days"),  # of a month with 31 days that begins on a Saturday
    [
        ("0 0 13 * *", [13]),
        ("0 0 L * *", [31]),
        ("0 0 l,15 * *", [15, 31]),
        ("0 0 29-L * *", [29, 30, 31]),
        ("0 0 1W * *", [3]),
        ("0 0 15W * *", [14]),
        ("0 0 w16 * *", [17]),
        ("0 0 12W * *", [12]),
        ("0 0 * * 5#2", [14]),
        ("0 0 * * sat#5,sun#1", [2, 29]),
        ("0 0 * * mon-wed#1", [3, 4, 5]),
        ("0 0 * * mon-mon#1", [3]),
        ("0 0 * * L1", [31]),
        ("0 0 ? * 6", [1, 8, 15, 22, 29]),
    ],
)
def test_the_day_fields_name_these_days(line: str, days: list[int]) -> None:
    assert list(read_cron(line).day_rule.in_month(5, 31)) == days


@pytest.mark.parametrize(
    ("wanted", "first_weekday", "length", "day"),
    [("1W", 6, 30, 2), ("30W", 5, 30, 28), ("31W", 6, 30, 30), ("31W", 0, 28, 26), ("31W", 4, 30, 29)],
)
def test_the_nearest_weekday_stays_in_its_month(
    wanted: str, first_weekday: int, length: int, day: int
) -> None:
    assert read_cron(f"0 0 {wanted} * *").day_rule.in_month(first_weekday, length) == (day,)


def test_two_restricted_day_fields_are_alternatives() -> None:
    assert read_cron("0 0 13 * 5").day_rule.in_month(0, 31) == (5, 12, 13, 19, 26)
    assert read_cron("0 0 1 * 5#2").day_rule.in_month(0, 31) == (1, 12)
    assert read_cron("0 0 20W * L5").day_rule.in_month(0, 31) == (19, 26)


@pytest.mark.parametrize("line", ["0 0 */2 * 5", "0 0 */2 * FRI"])
def test_a_day_field_that_begins_with_a_star_narrows_the_other(line: str) -> None:
    assert read_cron(line).day_rule.in_month(0, 31) == (5, 19)


@pytest.mark.parametrize(
    ("line", "interval"),
    [
        ("* 2 * * *", True),
        ("0 */6 * * *", True),
        ("0 * * * *", True),
        ("@hourly", True),
        ("0,30 2 * * *", False),
        ("0-59 0-23 * * *", False),
        ("@daily", False),
    ],
)
def test_a_star_in_minute_or_hour_makes_an_interval(line: str, interval: bool) -> None:
    assert read_cron(line).interval is interval


def test_every_alias_is_the_line_it_names() -> None:
    lines = ("0 * * * *", "0 0 * * *", "0 0 * * *", "0 0 * * 0", "0 0 1 * *", "0 0 1 1 *", "0 0 1 1 *")
    for alias, line in zip(ALIASES, lines, strict=True):
        short, long = read_cron(alias.upper()), read_cron(line)
        assert (short.minutes, short.hours, short.months, short.day_rule) == (
            (long.minutes, long.hours, long.months, long.day_rule)
        )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("60 * * * *", "minute field '60' is not understood: minutes are 0-59"),
        ("* 24 * * *", "hour field '24'"),
        ("* * 32 * *", "day-of-month field '32'"),
        ("* * 0 * *", "day-of-month field '0'"),
        ("* * 1,15W * *", "a single 15W"),
        ("* * * 13 *", "month field '13'"),
        ("* * * foo *", "month field 'foo'"),
        ("* * * * 8", "day-of-week field '8'"),
        ("* * * * 5#6", "day-of-week field '5#6'"),
        ("* * * * 1,5#2", "mixes plain weekdays with # or L"),
        ("*/0 * * * *", "minute field '*/0'"),
        ("-5 * * * *", "minute field '-5'"),
        ("1,,2 * * * *", "minute field '1,,2'"),
        ("? * * * *", "minute field '?'"),
        ("٣ * * * *", "minute field"),
        ("*/90 * * * *", "longer than the minute field"),
        ("0 1/25 * * *", "longer than the hour field"),
        ("0 22-4/3 * * *", "runs backwards by steps"),
        ("H * * * *", "hashed or random"),
        ("0 R(0-5) * * *", "hashed or random"),
        ("0 0 * *", "has 4 fields; a cron line has five"),
        ("0 0 0 * * *", "has 6 fields; a cron line has five"),
        ("0 0 0 * * * 2030", "Leave out the seconds and the year"),
        ("@fortnightly", "@hourly, @daily"),
        ("0 " * 600, "at most 500 characters"),
    ],
)
def test_a_bad_line_is_refused_by_name(line: str, expected: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        read_cron(line, field="schedules[2].schedule")
    assert (caught.value.code, caught.value.status) == ("bad_cron", 400)
    assert caught.value.field == "schedules[2].schedule"
    assert expected in caught.value.message


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 */2", "0 0 30,31 2 ?"])
def test_a_line_without_a_day_is_refused(line: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        read_cron(line)
    assert caught.value.code == "cron_never_fires"
    assert "Change its day or month" in caught.value.message


@pytest.mark.parametrize("line", ["0 0 29 2 *", "0 0 30 2 1", "0 0 * 2 mon#5", "0 0 30W 2 *"])
def test_a_line_with_a_rare_day_is_read(line: str) -> None:
    assert read_cron(line).fires_ever()


def refusal_code(line: str) -> str | None:
    try:
        cron = read_cron(line)
    except ScheduleError as refusal:
        return refusal.code
    return None if cron.next_wall(datetime(2026, 1, 1)) else "read, and yet without a time"  # noqa: DTZ001


@settings(max_examples=3 * EXAMPLES)
@given(st.lists(st.text("0123456789*/-,#?LlWwHhRr@ jansu", max_size=6), min_size=5, max_size=5))
def test_any_text_is_read_or_refused_and_never_breaks(fields: list[str]) -> None:
    assert refusal_code(" ".join(fields)) in {None, "bad_cron", "cron_never_fires"}


@given(st.text(string.printable, max_size=40))
def test_any_printable_text_is_read_or_refused(text: str) -> None:
    assert refusal_code(text) in {None, "bad_cron", "cron_never_fires"}


@pytest.mark.parametrize(
    ("line", "dates"),
    [
        ("0 9 L-3 * *", ["01-28", "02-25", "03-28", "04-27"]),
        ("0 9 L-1,10 * *", ["01-10", "01-30", "02-10", "02-27"]),
        ("0 9 LW * *", ["01-30", "02-27", "03-31", "04-30"]),
        ("0 9 31W * *", ["01-30", "02-27", "03-31", "04-30"]),
        ("0 9 15W * *", ["01-15", "02-16", "03-16", "04-15"]),
        ("0 9 * * friL", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 9 * * FridayL", ["01-30", "02-27", "03-27", "04-24"]),
        ("0 9 * * Friday#2", ["01-09", "02-13", "03-13", "04-10"]),
        ("0 9 1 February-April Monday", ["02-01", "02-02", "02-09", "02-16"]),
    ],
)
def test_quartz_s_day_forms_and_names_in_full_are_read(line: str, dates: list[str]) -> None:
    cron, at, found = read_cron(line), datetime(2026, 1, 1), []  # noqa: DTZ001 - wall times are naive
    for _ in dates:
        next_at = cron.next_wall(at)
        assert next_at is not None
        at = next_at
        found.append(at.strftime("%m-%d"))
    assert found == dates


def test_names_in_full_are_the_short_ones() -> None:
    assert read_cron("0 9 * May Monday-Friday").day_rule == read_cron("0 9 * may mon-fri").day_rule


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("0 9 * * 5L", "Write L5 or FRIL for the last Friday"),
        ("0 9 * * 7L", "Write L7 or SUNL for the last Sunday"),
        ("0 9 L-0 * *", "L-1 to L-30"),
        ("0 9 L-31 * *", "L-1 to L-30"),
        ("0 9 L-3W * *", "L-3 for the third before it"),
        ("@reboot", "Submit the run when your system starts"),
        ("@every 5m", r"Write '\*/5 \* \* \* \*'"),
        ("@every 1h", "Write '@hourly'"),
        ("@every 1h0m0s", "Write '@hourly'"),
        ("@every 6h", r"Write '0 \*/6 \* \* \*'"),
        ("@every 24h", "Write '@daily'"),
        ("@every 7m", "divides the hour or the day"),
        ("@every 0m", "divides the hour or the day"),
        ("@every soon", "divides the hour or the day"),
        ("TZ=Europe/Berlin 0 9 * * *", "`timezone`: send timezone 'Europe/Berlin' and the line '0 9 "),
        ("CRON_TZ=UTC  @daily", "`timezone`: send timezone 'UTC' and the line '@daily'"),
    ],
)
def test_what_is_not_read_is_refused_with_what_to_write(line: str, hint: str) -> None:
    with pytest.raises(ScheduleError, match=hint) as refused:
        read_cron(line)
    assert refused.value.code == "bad_cron"
