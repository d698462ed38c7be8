"""The due times of a schedule that passed without a run, to be made up for later. Pure."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from runyard_common.schedules.rules.schedule import CronSchedule
from runyard_common.schedules.rules.stored_schedule import ScheduleState, StoredSchedule
from runyard_common.values.errors import InvalidRequest

#: Runs that one backfill makes.
MAX_BACKFILL: Final = 100
#: Due times that one backfill looks at, those that have a run included.
MOST_SEEN: Final = 2_000


@dataclass(frozen=True, slots=True)
class Range:
    """From when to when, both included, in epoch seconds."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Backfill:
    """Due times without a run, oldest first. `next_since` (epoch seconds): where the next backfill of the same
    range begins; None when this is all of it."""

    times: tuple[float, ...]
    next_since: float | None


def open_range(schedule: StoredSchedule, since: float, until: float | None, now: float) -> Range:
    """What can be made up for of the range that is asked for.

    A time that the schedulers have yet to decide is theirs. Raises `InvalidRequest` bad_range for a range that begins
    in the future or ends before it begins.
    """
    if since > now or (until is not None and until < since):
        field = "since" if since > now else "until"
        message = (
            "A backfill makes up for times that have passed: `since` is before now, and not after `until`."
        )
        raise InvalidRequest(message, code="bad_range", field=field)
    end = now if until is None else min(until, now)
    if schedule.state is ScheduleState.ACTIVE and schedule.next_due_at is not None:
        end = min(end, schedule.next_due_at - 1e-3)
    return Range(since, end)


def plan(schedule: StoredSchedule, asked: Range, done: Set[float], limit: int) -> Backfill:
    """The first `limit` due times in `asked` that are not among `done`, those that have a run.

    The range may begin before the schedule was made. How often it was to fire in all (`max_fires`) does not count;
    where it ends (`end_at`) does. Error: `ScheduleError` for a schedule that this code cannot read.
    """
    times, found = schedule.times, list[float]()
    if not isinstance(times, CronSchedule):
        due = times.at
        is_due = asked.since <= due <= asked.until and due not in done
        return Backfill((due,) if is_due else (), None)
    seen, next_due = 0, times.next_after(asked.since - 1e-3)
    while next_due is not None and next_due <= asked.until and schedule.lifetime.allows(next_due):
        if len(found) == limit or seen == MOST_SEEN:
            return Backfill(tuple(found), next_due)
        if next_due not in done:
            found.append(next_due)
        seen, next_due = seen + 1, times.next_after(next_due)
    return Backfill(tuple(found), None)
