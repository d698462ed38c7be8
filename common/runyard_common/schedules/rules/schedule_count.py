# ruff: noqa: DTZ001 - midnights are wall times, naive on purpose
"""How many due times lie between two instants, without visiting each: ordinary days are counted whole."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from runyard_common.schedules.rules.schedule import CronSchedule, Schedule
from runyard_common.schedules.rules.timezones import read_wall, wall_at

_DAY = timedelta(days=1)
_DAY_S = 86_400


def count_due(schedule: Schedule, after: float, until: float) -> int:
    """How many due times lie later than `after` and not later than `until` (epoch seconds)."""
    if not isinstance(schedule, CronSchedule):
        return int(after < schedule.at <= until)
    if until <= after:
        return 0
    day, last = wall_at(after, schedule.zone).date(), wall_at(until, schedule.zone).date()
    total = 0
    while day <= last + _DAY:  # one day more: clocks can go back over midnight
        total += _on_day(schedule, day, after, until)
        day += _DAY
    return total


def _on_day(schedule: CronSchedule, day: date, after: float, until: float) -> int:
    """The due times of one local day. Only a day on which the clocks shift is visited time by time."""
    start, end = _midnight(schedule, day), _midnight(schedule, day + _DAY)
    if end - start != _DAY_S:
        return _visit(schedule, max(after, start - 1), min(until, end - 1))
    by_then = schedule.cron.times_by(wall_at(min(until, end - 1), schedule.zone)) if until >= start else 0
    before = schedule.cron.times_by(wall_at(after, schedule.zone)) if after >= start else 0
    return by_then - before


def _midnight(schedule: CronSchedule, day: date) -> int:
    """The first instant of a local day."""
    return read_wall(datetime(day.year, day.month, day.day), schedule.zone).first


def _visit(schedule: CronSchedule, after: float, until: float) -> int:
    count = 0
    due = schedule.next_after(after)
    while due is not None and due <= until:
        count, due = count + 1, schedule.next_after(due)
    return count
