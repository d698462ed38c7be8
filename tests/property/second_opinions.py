"""What cronsim and croniter say about a case, and the documented reasons for saying something else."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import croniter as croniter_package
import cronsim as cronsim_package

from runyard_common.schedules.rules.schedule import CronSchedule
from tests.property.cron_cases import Case
from tests.property.cron_daemon import ALIASES, MONTHS, WEEKDAYS, Line

AGREES = "agrees"


def cronsim(one: Case, schedule: CronSchedule, due: float | None) -> str:
    """cronsim's verdict, on the lines its narrower grammar reads."""
    text = ALIASES.get(one.expression.lower(), one.expression).lower().replace("?", "*")
    text = re.sub(r"\bl([0-7])$", r"\1l", text)
    start = datetime.fromtimestamp(one.start, schedule.zone)
    try:
        found = next(_Cronsim(text, start)).timestamp()
    except cronsim_package.CronSimError:
        return "cannot read the line"
    except _StillSearchingError:
        return "differs: clock shift of half an hour: its search never ends"
    except StopIteration:
        return _verdict(one, None, due, "")
    return _verdict(one, found, due, _cronsim_reason(one, schedule, found, due))


class _StillSearchingError(Exception):
    pass


class _Cronsim(cronsim_package.CronSim):
    """cronsim with an end to its patience."""

    ticks = 0

    def tick(self, seconds: int = 1) -> None:
        self.ticks += 1
        if self.ticks > 100_000:
            raise _StillSearchingError
        super().tick(seconds)


def croniter(one: Case, schedule: CronSchedule, due: float | None) -> str:
    """croniter's verdict, asked to combine the two day fields as cron does."""
    start = datetime.fromtimestamp(one.start, schedule.zone)
    try:
        line = croniter_package.croniter(one.expression, start, implement_cron_bug=True)
        found = line.get_next(datetime).timestamp()
    except croniter_package.CroniterBadDateError:
        found = None
    return _verdict(one, found, due, _croniter_reason(one, schedule, found, due))


OPINIONS: dict[str, Callable[[Case, CronSchedule, float | None], str]] = {
    "cronsim": cronsim,
    "croniter": croniter,
}


def _verdict(one: Case, found: float | None, due: float | None, reason: str) -> str:
    if found == due:
        return AGREES
    return f"differs: {reason}" if reason else f"unexplained: from {one.start} it finds {found}, not {due}"


def _cronsim_reason(one: Case, schedule: CronSchedule, found: float, due: float | None) -> str:
    weekday = one.expression.lower().split()[-1]
    if re.search(r"(^|,)\w+/", weekday):
        return "a start with a step in day-of-week reaches 7, Sunday"
    if any(_equal(low, high) for low, high in re.findall(r"(\w+)-(\w+)/", one.expression.lower())):
        return "a step after a range of one value runs on to the end of the field"
    if found <= one.start:
        return "a search that starts in a repeated hour goes back in time"
    shown = datetime.fromtimestamp(found, schedule.zone)
    if schedule.cron.interval and not Line(one.expression).shows(shown.replace(tzinfo=None)):
        return "clock shift: an interval fires at a midnight the clocks skip"
    if schedule.cron.interval and due is not None and due < found and _clocks_shift(schedule.zone, due):
        return "clock shift: stepping by hours from it, an interval's first fires are missed"
    return ""


def _croniter_reason(one: Case, schedule: CronSchedule, found: float | None, due: float | None) -> str:
    text = ALIASES.get(one.expression.lower(), one.expression).lower()
    _, _, day, _, weekday = text.split()
    if any(_equal(low, high) for low, high in re.findall(r"(\w+)-(\w+)", text)):
        return "a range of one value is read as the whole field"
    if day[0] not in "*?" and weekday[0] not in "*?" and re.search(r"w|#|l\d", f"{day} {weekday}"):
        return "W, # and L are never alternatives to the other day field"
    if found is not None and due is not None and _clocks_shift(schedule.zone, one.start, found, due):
        shown = datetime.fromtimestamp(found, schedule.zone)
        if not Line(text).shows(shown.replace(tzinfo=None)):
            return "clock shift: an interval's skipped time is moved"
        if shown.fold and not schedule.cron.interval:
            return "clock shift: a time of day fires in both passes of a repeated hour"
        return "clock shift: a fire is left out"
    return ""


def _equal(low: str, high: str) -> bool:
    return _number(low) == _number(high)


def _number(text: str) -> int:
    if text in MONTHS:
        return MONTHS.index(text) + 1
    if text in WEEKDAYS:
        return WEEKDAYS.index(text)
    return 31 if text == "l" else int(text)


def _clocks_shift(zone: ZoneInfo, *times: float) -> bool:
    """Whether the offset changes within a day of any of the instants."""
    return any(_offset(at - 86_400, zone) != _offset(at + 86_400, zone) for at in times)


def _offset(at: float, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).utcoffset()


def has_a_day(line: Line) -> bool:
    """Whether any day of 28 years is one of the line's: they hold every kind of year."""
    first = date(2000, 1, 1)
    return any(line.on_day(first + timedelta(days=n)) for n in range(28 * 365 + 7))
