# ruff: noqa: DTZ001 - midnights are wall times, naive on purpose
"""Which due times fire now: the late ones always, the missed ones by the schedule's catch-up policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from runyard_common.schedules.rules.policies import FOR_EVER, NO_JITTER, Jitter, Lifetime
from runyard_common.schedules.rules.schedule import CronSchedule, Schedule
from runyard_common.schedules.rules.timezones import read_wall, wall_at

#: A due time found less than this long after its release is late, not missed: it fires under every policy.
ON_TIME_S = 60.0
DAY_S = 86_400.0
_CLOSEST_S = 60.0  # no two due times of a schedule are closer


class CatchUp(StrEnum):
    """What happens to due times that were missed: the schedulers were down, suspended, or the clock leapt."""

    NONE = "none"  # they are skipped
    LAST = "last"  # one run for all of them: the newest
    ALL = "all"  # each fires, oldest first


@dataclass(frozen=True, slots=True)
class DueFires:
    """What to fire now, and what to store so that no due time is handled twice."""

    fires: tuple[float, ...]  # due times, oldest first
    skipped: int  # due times passed over
    last_due: float | None  # the newest due time now handled: the next call's `last_due`
    next_due: float | None  # the first due time not handled, which may be due already; None when finished
    wake_at: float | None  # when `next_due` is released: `next_due` with its jitter
    clock_behind_s: float  # above 0: the clock is this far before a due time already handled

    @property
    def finished(self) -> bool:
        """Whether the schedule will never fire again."""
        return self.next_due is None


def default_window_s(schedule: Schedule) -> float:
    """How old a missed due time may be: a day, but a single moment has no later one to make up for it."""
    return DAY_S if isinstance(schedule, CronSchedule) else 36_525 * DAY_S


def due_fires(
    schedule: Schedule,
    last_due: float | None,
    now: float,
    catch_up_window_s: float,
    catch_up_policy: CatchUp,
    limit: int = 100,
    *,
    since: float | None = None,
    lifetime: Lifetime = FOR_EVER,
    fired: int = 0,
    jitter: Jitter = NO_JITTER,
) -> DueFires:
    """Decide every due time after `last_due` that is released by `now`. Instants are epoch seconds.

    `last_due` is the newest due time handled so far, `None` before the first; a cron schedule then counts
    from `since`, its creation. (Resuming a paused schedule passes the moment it was resumed as `last_due`.)
    No due time at or before `last_due` is ever returned, wherever the clock has gone. At most `limit` fire;
    the others stay due.
    """
    if limit < 1:
        raise ValueError("limit is at least 1")
    times = _Times(schedule, now, lifetime, jitter)
    behind = max(0.0, last_due - now) if last_due is not None else 0.0
    first = times.first(last_due, since)
    remaining = lifetime.remaining(fired)
    if first is None or remaining == 0:
        return DueFires((), 0, last_due, None, None, behind)
    if not times.released(first):
        return DueFires((), 0, last_due, first, jitter.release_at(first), behind)
    most = limit if remaining is None else min(limit, remaining)
    newest = times.newest(first)
    fires = times.chosen(first, newest, catch_up_policy, catch_up_window_s, most)
    handled = fires[-1] if len(fires) == most else newest
    passed = 1 + (count_due(schedule, first, handled) if handled > first else 0)
    following = None if len(fires) == remaining else times.after(handled)
    wake_at = None if following is None else jitter.release_at(following)
    return DueFires(fires, passed - len(fires), handled, following, wake_at, behind)


@dataclass(frozen=True, slots=True)
class _Times:
    """The due times of a schedule, as of `now`."""

    schedule: Schedule
    now: float
    lifetime: Lifetime
    jitter: Jitter

    def first(self, last_due: float | None, since: float | None) -> float | None:
        """The first due time not handled."""
        if last_due is not None:
            return self.after(last_due)
        if since is None and isinstance(self.schedule, CronSchedule):
            raise ValueError("a cron schedule that has handled nothing counts from `since`")
        return self._allowed(self.schedule.first_due(since or 0.0))

    def after(self, instant: float) -> float | None:
        """The first due time later than `instant`, unless the schedule has ended by then."""
        return self._allowed(self.schedule.next_after(instant))

    def released(self, due: float) -> bool:
        """Whether `due`, with its jitter, has come."""
        return self.jitter.release_at(due) <= self.now

    def newest(self, first: float) -> float:
        """The last due time in the unbroken line of released ones that begins with `first`."""
        newest = self._latest(first, self.now - self.jitter.spread_s)
        while (due := self.after(newest)) is not None and self.released(due):
            newest = due
        return newest

    def chosen(
        self, first: float, newest: float, policy: CatchUp, window_s: float, most: int
    ) -> tuple[float, ...]:
        """The due times from `first` to `newest` that fire: at most `most`, oldest first."""
        keep_s = max(ON_TIME_S, window_s if policy is CatchUp.ALL else 0.0)
        fires: list[float] = []
        due = self._from(first, self.now - keep_s - self.jitter.spread_s)
        while due is not None and due <= newest and len(fires) < most:
            if self._age(due) < ON_TIME_S or (policy is CatchUp.ALL and self._age(due) <= window_s):
                fires.append(due)
            due = self.after(due)
        if not fires and policy is CatchUp.LAST and self._age(newest) <= window_s:
            fires.append(newest)
        return tuple(fires)

    def _latest(self, first: float, horizon: float) -> float:
        """The last due time up to `horizon`, found by halving; `first` when there is none after it."""
        low, high = first, horizon
        while high - low >= _CLOSEST_S:
            middle = (low + high) / 2
            due = self.after(middle)
            if due is None or due > horizon:
                high = middle
            else:
                low = due
        return low

    def _from(self, first: float, instant: float) -> float | None:
        """The first due time at or after `instant`, but none before `first`."""
        return first if first >= instant else self.after(instant - 1.0)

    def _age(self, due: float) -> float:
        return self.now - self.jitter.release_at(due)

    def _allowed(self, due: float | None) -> float | None:
        return due if due is not None and self.lifetime.allows(due) else None


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
