"""The next due times of a schedule as people read them, with the ones a clock shift touches marked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from runyard_common.schedules.rules.policies import FOR_EVER, Lifetime
from runyard_common.schedules.rules.schedule import CronSchedule, DateSchedule, Schedule
from runyard_common.schedules.rules.schedule_text import read_date
from runyard_common.schedules.rules.timezones import read_wall, wall_at
from runyard_common.values.errors import ScheduleError

MAX_PREVIEW = 100


class ClockNote(StrEnum):
    """How a clock shift touches one due time."""

    MOVED = "skipped local time moved"  # the clocks jump over it: it fires right after the jump
    PASSED_OVER = "skipped local times passed over"  # an interval has none in the hour the clocks jumped over
    DOUBLED = "doubled local time, fires once"  # a time of day: it fires on the first pass
    DOUBLED_FIRST = "doubled local time, first pass"  # an interval goes on through both passes
    DOUBLED_SECOND = "doubled local time, second pass"


@dataclass(frozen=True, slots=True)
class PreviewEntry:
    """One due time."""

    at: float  # epoch seconds
    local: str  # ISO 8601 with offset, on the schedule's clocks
    note: ClockNote | None

    def to_json(self) -> dict[str, Any]:
        """``{"at", "local", "note"}``."""
        return {"at": self.at, "local": self.local, "note": self.note and self.note.value}


def preview(
    schedule: Schedule, after: float, count: int, lifetime: Lifetime = FOR_EVER
) -> list[PreviewEntry]:
    """The first `count` due times later than `after`, fewer when the schedule ends earlier.

    Raises `ScheduleError` ``bad_count`` unless `count` is from 1 to 100.
    """
    if not 1 <= count <= MAX_PREVIEW:
        message = f"A preview shows from 1 to {MAX_PREVIEW} due times."
        raise ScheduleError(message, code="bad_count", field="count")
    entries: list[PreviewEntry] = []
    due = schedule.next_after(after)
    while due is not None and lifetime.allows(due) and len(entries) < count:
        local = wall_at(due, schedule.zone).isoformat()
        entries.append(PreviewEntry(due, local, _note(schedule, after, due)))
        after, due = due, schedule.next_after(due)
    return entries


def _note(schedule: Schedule, before: float, due: float) -> ClockNote | None:
    if isinstance(schedule, CronSchedule):
        return _interval_note(schedule, before, due) if schedule.cron.interval else _time_note(schedule, due)
    if isinstance(schedule, DateSchedule):
        _, wall_time = read_date(schedule.text, schedule.zone)
        if wall_time is not None and wall_time.skipped:
            return ClockNote.MOVED
        if wall_time is not None and wall_time.doubled:
            return ClockNote.DOUBLED
    return None


def _time_note(schedule: CronSchedule, due: float) -> ClockNote | None:
    zone = schedule.zone
    shown = wall_at(due, zone).replace(tzinfo=None)
    earlier = wall_at(due - 1, zone).replace(tzinfo=None)
    named = schedule.cron.next_wall(earlier)
    if named is not None and named < shown:  # between two seconds only a jump fits
        return ClockNote.MOVED
    return ClockNote.DOUBLED if read_wall(shown, zone).doubled else None


def _interval_note(schedule: CronSchedule, before: float, due: float) -> ClockNote | None:
    zone = schedule.zone
    shown = wall_at(due, zone)
    wall = shown.replace(tzinfo=None, fold=0)
    if read_wall(wall, zone).doubled:
        return ClockNote.DOUBLED_SECOND if shown.fold else ClockNote.DOUBLED_FIRST
    named = schedule.cron.next_wall(wall_at(before, zone).replace(tzinfo=None))
    if named is not None and named < wall:  # it did not fire, so no clock showed it
        return ClockNote.PASSED_OVER
    return None
