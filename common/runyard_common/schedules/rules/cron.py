# ruff: noqa: DTZ001 - wall times are naive on purpose
"""A five-field cron line as sets of minutes, hours and days, and the wall-clock times it names.

`cron_line` reads the line; which days match and what comes next is worked out here, by the one reading that
``docs/decisions/0006-cron-reading.md`` fixes. No time zone enters: wall times are naive.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

#: The last year whose times are searched: far past any schedule, short of `datetime.max`.
LAST_YEAR = 9000

_LONGEST = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

Nth = int | Literal["l"]  # 1-5, or the last one of the month


@dataclass(frozen=True, slots=True)
class DayRule:
    """Which days of a month match: the day-of-month and day-of-week fields together."""

    days: frozenset[int]  # 1-31
    last_day: bool  # L
    before_last: frozenset[int]  # L-3: so many days before the last one
    nearest_weekday: frozenset[int]  # 15W: the weekday nearest to the 15th, in the same month
    weekdays: frozenset[int]  # 0-6, Sunday is 0
    nth_weekdays: frozenset[tuple[int, Nth]]  # 5#2, L5
    both: bool  # a day must match both fields (one of them begins with *), or just one

    def in_month(self, first_weekday: int, length: int) -> tuple[int, ...]:
        """The matching days of a month of `length` days whose 1st falls on `first_weekday` (Monday is 0)."""
        return tuple(day for day in range(1, length + 1) if self._matches(day, first_weekday, length))

    def _matches(self, day: int, first_weekday: int, length: int) -> bool:
        weekday = (first_weekday + day) % 7  # Sunday is 0, as in the cron field
        by_date = self._matches_date(day, first_weekday, length)
        nth = (day + 6) // 7
        by_weekday = (
            weekday in self.weekdays
            or (weekday, nth) in self.nth_weekdays
            or ((weekday, "l") in self.nth_weekdays and day + 7 > length)
        )
        return (by_date and by_weekday) if self.both else (by_date or by_weekday)

    def _matches_date(self, day: int, first_weekday: int, length: int) -> bool:
        if day in self.days or (self.last_day and day == length) or length - day in self.before_last:
            return True
        return any(_nearest_weekday(wanted, first_weekday, length) == day for wanted in self.nearest_weekday)


def _nearest_weekday(wanted: int, first_weekday: int, length: int) -> int:
    """The Monday-to-Friday day nearest to `wanted` without leaving the month."""
    day = min(wanted, length)
    weekday = (first_weekday + day - 1) % 7
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else 3
    if weekday == calendar.SUNDAY:
        return day + 1 if day < length else length - 2
    return day


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron line that has been read. Equal lines are equal values."""

    expression: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    day_rule: DayRule
    #: The minute or hour field begins with ``*``: the line asks for an interval and follows elapsed time
    #: through a clock shift. Otherwise it names times of day, and each happens once a day.
    interval: bool
    _days: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    def next_wall(self, after: datetime) -> datetime | None:
        """The first wall time the line names that is later than `after`; `None` when no calendar has one."""
        if after.month in self.months and after.day in self._days_in(after.year, after.month):
            time = self._time_after(after.hour, after.minute)
            if time is not None:
                return datetime(after.year, after.month, after.day, *time)
        day = self._date_after(after.year, after.month, after.day)
        return None if day is None else datetime(*day, self.hours[0], self.minutes[0])

    def times_by(self, wall: datetime) -> int:
        """How many wall times the line names on the day of `wall`, up to and including it."""
        if wall.month not in self.months or wall.day not in self._days_in(wall.year, wall.month):
            return 0
        whole_hours = bisect_left(self.hours, wall.hour) * len(self.minutes)
        return whole_hours + (bisect_right(self.minutes, wall.minute) if wall.hour in self.hours else 0)

    def fires_ever(self) -> bool:
        """Whether any month of any year has a matching day. (30 February has none.)"""
        lengths = {_LONGEST[month] for month in self.months} | ({28} if 2 in self.months else set())
        return any(self.day_rule.in_month(first, length) for length in lengths for first in range(7))

    def _time_after(self, hour: int, minute: int) -> tuple[int, int] | None:
        """The next (hour, minute) of the same day, later than the given one."""
        if hour in self.hours and minute < self.minutes[-1]:
            return hour, self.minutes[bisect_right(self.minutes, minute)]
        later = bisect_right(self.hours, hour)
        return (self.hours[later], self.minutes[0]) if later < len(self.hours) else None

    def _date_after(self, year: int, month: int, day: int) -> tuple[int, int, int] | None:
        """The next matching date, later than the given one."""
        index = bisect_left(self.months, month)
        if index == len(self.months) or self.months[index] != month:
            day = 0  # this month does not match: the next matching one counts from its first day
        while year <= LAST_YEAR:
            for candidate in self.months[index:]:
                days = self._days_in(year, candidate)
                later = bisect_right(days, day)
                if later < len(days):
                    return year, candidate, days[later]
                day = 0
            year, index, day = year + 1, 0, 0
        return None

    def _days_in(self, year: int, month: int) -> tuple[int, ...]:
        """The matching days of one month. At most 28 kinds of month exist, so each is worked out once."""
        kind = calendar.monthrange(year, month)
        days = self._days.get(kind)
        if days is None:
            days = self._days[kind] = self.day_rule.in_month(*kind)
        return days
