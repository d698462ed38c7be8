"""Reading what a caller wrote for a schedule: a number of seconds, a date, or a cron line."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from runyard_common.schedules.rules.cron_line import read_cron
from runyard_common.schedules.rules.schedule import CronSchedule, DateSchedule, DelaySchedule, Schedule
from runyard_common.schedules.rules.timezones import WallTime, read_wall, utc_text, zone_named
from runyard_common.values.errors import ScheduleError

#: Ten years. Seconds since the epoch, sent for a delay by mistake, are longer than that and so are caught.
MAX_DELAY_S = 3_650 * 86_400.0
#: A hundred years: later dates are placeholders for "never".
MAX_DATE_AHEAD_S = 36_525 * 86_400.0

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_DATE = re.compile(r"[+-]?\d{4,6}-\S|\d{8}T", re.ASCII)
_FORMS = "Give seconds, an ISO 8601 date such as '2030-01-31T09:00', or a cron line such as '0 9 * * 1-5'."


def parse_schedule(
    value: Any,
    timezone: str = "UTC",
    *,
    now: float,
    catch_up: bool = False,
    field: str = "schedule",
    timezone_field: str = "timezone",
) -> Schedule:
    """The schedule that `value` asks for, or `ScheduleError` (see there for its codes).

    A number or numeric string is a delay in seconds from `now` (epoch seconds). A date or date-time without
    an offset is read on the clocks of `timezone`, and refused when past unless `catch_up`. Anything else is
    a cron line.
    """
    zone = zone_named(timezone, field=timezone_field)
    try:
        if isinstance(value, str):
            return _read_text(value.strip(), zone, now, catch_up)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _delay(value, zone, now)
        raise ScheduleError(
            f"A value of type {type(value).__name__} is no schedule. {_FORMS}", code="bad_schedule"
        )
    except ScheduleError as refusal:
        refusal.field = field
        raise


def _read_text(text: str, zone: ZoneInfo, now: float, catch_up: bool) -> Schedule:
    if not text:
        raise ScheduleError(f"The schedule is empty. {_FORMS}", code="bad_schedule")
    if _NUMBER.fullmatch(text):
        return _delay(float(text), zone, now)
    if _DATE.match(text):
        return _date(text, zone, now, catch_up)
    if len(text.split()) == 1 and not text.startswith("@"):
        raise ScheduleError(f"{text[:80]!r} is no schedule. {_FORMS}", code="bad_schedule")
    return CronSchedule(read_cron(text).expression, zone.key)


def _delay(value: float, zone: ZoneInfo, now: float) -> DelaySchedule:
    if not value > 0:  # also NaN
        raise ScheduleError("A delay is a number of seconds above 0; 0.001 runs at once.", code="bad_delay")
    if value > MAX_DELAY_S:
        raise ScheduleError(
            f"A delay is at most {MAX_DELAY_S:.0f} seconds (ten years), counted from now."
            " For a moment in time, give a date.",
            code="delay_too_long",
        )
    return DelaySchedule(now + value, zone.key, float(value))


def _date(text: str, zone: ZoneInfo, now: float, catch_up: bool) -> DateSchedule:
    year = _moment(text).year  # looked at first: at the ends of the calendar a date has no instant
    if year > datetime.fromtimestamp(now + MAX_DATE_AHEAD_S, UTC).year:
        message = f"{text!r} is more than a hundred years ahead. Give an earlier date."
        raise ScheduleError(message, code="date_too_far")
    if year < 1970:
        raise ScheduleError(f"{text!r} is before 1970. Give a later date.", code="date_in_past")
    at, _ = read_date(text, zone)
    if at < now and not catch_up:
        raise ScheduleError(
            f"{text!r} was at {utc_text(at)}, which has passed."
            " Give a later moment, or allow catching up to run it now.",
            code="date_in_past",
        )
    return DateSchedule(at, zone.key, text)


def read_date(text: str, zone: ZoneInfo) -> tuple[float, WallTime | None]:
    """When an ISO 8601 `text` is: epoch seconds, and how the zone's clocks read it if it names no offset.

    Raises `ScheduleError` ``bad_date``.
    """
    moment = _moment(text)
    if moment.tzinfo is not None:
        return moment.timestamp(), None
    wall_time = read_wall(moment.replace(microsecond=0), zone)
    fraction = 0.0 if wall_time.skipped else moment.microsecond / 1e6
    return wall_time.first + fraction, wall_time


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ScheduleError(
            f"{text[:80]!r} is not an ISO 8601 date. Write '2030-01-31', '2030-01-31T09:00' or"
            " '2030-01-31T09:00:00+01:00'.",
            code="bad_date",
        ) from error
