"""A cron daemon that wakes every minute: the slow, plain reading that the fast one is compared with.

It shares no code with `runyard_common.domain`: its own parser of the five fields, its own day rule, and, for clock
shifts, what Debian's daemon does minute by minute instead of any arithmetic with folds and gaps.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MINUTE = timedelta(minutes=1)


class Line:
    """A cron line as predicates on a wall time."""

    def __init__(self, text: str) -> None:
        self.fields = ALIASES.get(text.lower(), text.lower()).split()
        minute, hour, self.dom, month, self.dow = self.fields
        self.minutes = _numbers(minute, 0, 59, [])
        self.hours = _numbers(hour, 0, 23, [])
        self.months = _numbers(month, 1, 12, ["", *MONTHS])
        self.wildcard = minute[0] == "*" or hour[0] == "*"
        self._days: dict[date, bool] = {}

    def shows(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self.on_day(wall.date())

    def on_day(self, day: date) -> bool:
        if day not in self._days:
            self._days[day] = day.month in self.months and self._day_fields(day)
        return self._days[day]

    def _day_fields(self, day: date) -> bool:
        by_date = any(_is_date(term, day) for term in self.dom.split(","))
        by_weekday = any(_is_weekday(term, day) for term in self.dow.split(","))
        if self.dom[0] in "*?" or self.dow[0] in "*?":
            return by_date and by_weekday
        return by_date or by_weekday


def _numbers(field: str, low: int, high: int, names: list[str]) -> set[int]:
    return {n for term in field.split(",") for n in _term(term, low, high, names)}


def _term(term: str, low: int, high: int, names: list[str]) -> list[int]:
    body, _, step = term.partition("/")
    first, dash, last = body.partition("-")
    if body in {"*", "?"}:
        start, end = low, high
    elif dash:
        start, end = _number(first, names), _number(last, names)
    else:
        start = _number(first, names)
        end = high if step else start
    if start <= end:
        return list(range(start, end + 1, int(step or 1)))
    return [*range(start, high + 1), *range(low, end + 1)]


def _number(text: str, names: list[str]) -> int:
    return names.index(text) if text in names else int(text)


def _is_date(term: str, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    if term == "l":
        return day.day == last
    if term.endswith("w") or term.startswith("w"):
        return day == _nearest_working_day(day.year, day.month, min(int(term.strip("w")), last))
    return day.day in _term(term.replace("-l", "-31"), 1, 31, [])


def _nearest_working_day(year: int, month: int, day: int) -> date:
    middle = date(year, month, day)
    for distance in (0, -1, 1, -2, 2):
        near = middle + timedelta(days=distance)
        if near.month == month and near.weekday() < 5:
            return near
    raise AssertionError("every month has a working day within two days of any of its days")


def _is_weekday(term: str, day: date) -> bool:
    weekday = day.isoweekday() % 7
    if "#" in term:
        body, nth = term.split("#")
        return (day.day - 1) // 7 == int(nth) - 1 and weekday in _weekdays(body)
    if term.startswith("l"):
        return (day + timedelta(days=7)).month != day.month and weekday in _weekdays(term[1:])
    return weekday in _weekdays(term)


def _weekdays(body: str) -> set[int]:
    return {n % 7 for n in _term(body, 0, 6, WEEKDAYS)}


def fires(line: Line, zone: ZoneInfo, start: int, end: int) -> Iterator[int]:
    """Every instant after `start` and up to `end` at which the daemon would start the job."""
    now = _well_before(start, zone)
    reached = _wall(now, zone)
    while now < end:
        nap = _quiet_seconds(line, reached)
        if nap:
            now += nap
            reached = _wall(now, zone)
            continue
        now += 60
        wall = _wall(now, zone)
        if line.wildcard:  # at any time of the clocks
            fire = line.shows(wall)
            reached = wall
        else:  # every minute the clocks have newly reached, be it by a jump, and none that they repeat
            fire = any(line.shows(minute) for minute in _minutes(reached, wall))
            reached = max(reached, wall)
        if fire and start < now <= end:
            yield now


def _wall(now: int, zone: ZoneInfo) -> datetime:
    """What the clocks show. (Two times of one zone compare, and step, by their faces, not as instants.)"""
    return datetime.fromtimestamp(now, zone)


def _well_before(start: int, zone: ZoneInfo) -> int:
    """A whole minute some hours earlier, outside a repeated hour, where it is plain how far clocks got."""
    now = start // 60 * 60 - 4 * 3600
    while datetime.fromtimestamp(now, zone).fold:
        now -= 4 * 3600
    return now


def _minutes(after: datetime, until: datetime) -> Iterator[datetime]:
    while after < until:
        after += MINUTE
        yield after


def _quiet_seconds(line: Line, wall: datetime) -> int:
    """How long the daemon may sleep: no zone shifts its clocks in the middle of a day without fires."""
    if not 3 <= wall.hour < 20:
        return 0
    if wall.month not in line.months and wall.day < 27:
        return 86_400
    if line.on_day(wall.date()):
        return 0
    return (20 - wall.hour) * 3600 - wall.minute * 60
