"""What a schedule is: a cron line in a zone, one date, or one delay. Instants are epoch seconds (UTC)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from runyard_common.schedules.rules.cron import Cron
from runyard_common.schedules.rules.cron_line import read_cron
from runyard_common.schedules.rules.timezones import read_wall, set_back_to, wall_at, zone_named
from runyard_common.values.errors import ScheduleError

_MINUTE = timedelta(minutes=1)
#: Nothing is searched past this instant (the year 8941), so that no wall time leaves the calendar.
_END_OF_TIME = 2.2e11


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A five-field cron line, read on the clocks of an IANA zone as decision 0006 defines."""

    kind: ClassVar[Literal["cron"]] = "cron"

    expression: str
    timezone: str = "UTC"

    @property
    def cron(self) -> Cron:
        """The line, read (and remembered by its text)."""
        return read_cron(self.expression)

    @property
    def zone(self) -> ZoneInfo:
        """The zone, loaded."""
        return zone_named(self.timezone)

    def first_due(self, since: float) -> float | None:
        """The first due time after `since`."""
        return self.next_after(since)

    def next_after(self, instant: float) -> float | None:
        """The first due time later than `instant`; no line has one before 1970 or after the year 8900."""
        if instant > _END_OF_TIME:
            return None
        return _next(self, math.floor(max(instant, -1.0)))

    def _search(self, start: int) -> float | None:
        return self._next_interval(start) if self.cron.interval else self._next_time_of_day(start)

    def _next_time_of_day(self, start: int) -> float | None:
        """Each wall time once: the first instant at which the clocks have reached it."""
        cron, zone = self.cron, self.zone
        wall = cron.next_wall(wall_at(start, zone).replace(tzinfo=None))
        while wall is not None:
            due = read_wall(wall, zone).first
            if due > start:
                return float(due)
            wall = cron.next_wall(wall)
        return None

    def _next_interval(self, start: int) -> float | None:
        """Every instant at which the clocks show a wall time the line names."""
        zone = self.zone
        shown = wall_at(start, zone)
        wall = shown.replace(tzinfo=None)
        due = self._next_shown(wall, start)
        if shown.fold == 0 and read_wall(wall, zone).doubled:
            again = self._next_shown(set_back_to(wall, zone) - _MINUTE, start)
            due = min((found for found in (due, again) if found is not None), default=None)
        return due

    def _next_shown(self, after: datetime, start: int) -> float | None:
        """The first instant past `start` that shows a wall time later than `after`."""
        cron, zone = self.cron, self.zone
        wall = cron.next_wall(after)
        while wall is not None:
            wall_time = read_wall(wall, zone)
            if not wall_time.skipped:
                for due in (wall_time.first, wall_time.second):
                    if due > start:
                        return float(due)
            wall = cron.next_wall(wall)
        return None

    def to_json(self) -> dict[str, Any]:
        """``{"kind": "cron", "expression", "timezone"}``."""
        return {"kind": self.kind, "expression": self.expression, "timezone": self.timezone}


@lru_cache(maxsize=8_192)
def _next(schedule: CronSchedule, start: int) -> float | None:
    """Searched once: a look asks for the same due time again and again, and at full hours many schedules do."""
    return schedule._search(start)


@dataclass(frozen=True, slots=True)
class _OneMoment:
    """A schedule with a single due time."""

    at: float
    timezone: str

    @property
    def zone(self) -> ZoneInfo:
        """The zone, loaded."""
        return zone_named(self.timezone)

    def first_due(self, since: float) -> float | None:
        """The moment, also when it lies before `since`: it stays due until it has been handled."""
        return self.at

    def next_after(self, instant: float) -> float | None:
        """The moment, if it is later than `instant`."""
        return self.at if self.at > instant else None


@dataclass(frozen=True, slots=True)
class DateSchedule(_OneMoment):
    """One moment, given as a date or date-time."""

    kind: ClassVar[Literal["date"]] = "date"

    text: str  # as the caller wrote it

    def to_json(self) -> dict[str, Any]:
        """``{"kind": "date", "at", "timezone", "text"}``; `at` in epoch seconds."""
        return {"kind": self.kind, "at": self.at, "timezone": self.timezone, "text": self.text}


@dataclass(frozen=True, slots=True)
class DelaySchedule(_OneMoment):
    """One moment, a number of seconds after the schedule was accepted."""

    kind: ClassVar[Literal["delay"]] = "delay"

    seconds: float

    def to_json(self) -> dict[str, Any]:
        """``{"kind": "delay", "at", "timezone", "seconds"}``; `at` in epoch seconds."""
        return {"kind": self.kind, "at": self.at, "timezone": self.timezone, "seconds": self.seconds}


Schedule = CronSchedule | DateSchedule | DelaySchedule


def schedule_from_json(value: Mapping[str, Any]) -> Schedule:
    """The schedule that wrote `value` with `to_json`, or `ScheduleError` when none did."""
    try:
        match value:
            case {"kind": "cron", "expression": str(expression), "timezone": zone}:
                read_cron(expression)
                return CronSchedule(expression, _zone_name(zone))
            case {"kind": "date", "at": at, "text": str(text), "timezone": zone}:
                return DateSchedule(_finite(at), _zone_name(zone), text)
            case {"kind": "delay", "at": at, "seconds": seconds, "timezone": zone}:
                return DelaySchedule(_finite(at), _zone_name(zone), _finite(seconds))
    except (TypeError, ValueError, OverflowError) as error:
        raise _unknown(value) from error
    raise _unknown(value)


def _zone_name(name: object) -> str:
    return zone_named(name).key


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _unknown(value: object) -> ScheduleError:
    message = f"{str(value)[:200]!r} is not a stored schedule. Create the schedule again."
    return ScheduleError(message, field="schedule")
