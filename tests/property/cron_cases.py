# ruff: noqa: DTZ001 - wall times are naive on purpose
"""Random cron lines, zones and instants, with a weight on the hours at which clocks shift."""

from __future__ import annotations

import random
from datetime import datetime
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from runyard_common.schedules.rules.timezones import zone_names
from tests.property.cron_daemon import MONTHS, WEEKDAYS

#: Shifts of an hour by day and by night, of 15 and 30 minutes, of two and three hours; summer time below 0;
#: Ramadan; a day left out; and zones that never shift.
SHIFTY_ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "America/Asuncion", "America/Havana", "America/New_York",
    "America/Santiago", "America/Sao_Paulo", "America/Scoresbysund", "America/St_Johns", "Antarctica/Casey",
    "Antarctica/Troll", "Asia/Amman", "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Asia/Tehran",
    "Australia/Lord_Howe", "Australia/Sydney", "Europe/Berlin", "Europe/Dublin", "Europe/London",
    "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham", "UTC",
)  # fmt: skip
START, END = 1975, 2060


class Case(NamedTuple):
    expression: str
    zone: str
    start: int  # epoch seconds


def case(rng: random.Random, *, all_zones: bool) -> Case:
    zone = rng.choice(sorted(zone_names()) if all_zones and rng.random() < 0.5 else SHIFTY_ZONES)
    return Case(expression(rng), zone, instant(rng, zone))


def instant(rng: random.Random, zone: str) -> int:
    shifts = clock_shifts(zone)
    if shifts and rng.random() < 0.7:
        return rng.choice(shifts) + rng.choice((rng.randint(-7200, 7200), rng.randint(-130_000, 30_000)))
    return rng.randint(_epoch(START), _epoch(END))


@cache
def clock_shifts(zone: str) -> tuple[int, ...]:
    """The instants, to the quarter of an hour, at which the zone's offset changes for a week or more."""
    info = ZoneInfo(zone)
    weeks = range(_epoch(START), _epoch(END), 7 * 86_400)
    offsets = [datetime.fromtimestamp(at, info).utcoffset() for at in weeks]
    return tuple(
        _first_quarter(at, info)
        for at, before, after in zip(weeks, offsets, offsets[1:], strict=False)
        if before != after
    )


def _first_quarter(low: int, info: ZoneInfo) -> int:
    high, before = low + 7 * 86_400, datetime.fromtimestamp(low, info).utcoffset()
    while high - low > 900:
        middle = (low + high) // 2 // 900 * 900
        if datetime.fromtimestamp(middle, info).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def _epoch(year: int) -> int:
    return int((datetime(year, 1, 1) - datetime(1970, 1, 1)).total_seconds())


def expression(rng: random.Random) -> str:
    if rng.random() < 0.02:
        return rng.choice(("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"))
    hour = str(rng.randint(0, 3)) if rng.random() < 0.35 else _numbers(rng, 0, 23)
    day, weekday = _days(rng), _weekdays(rng)
    month = "*" if rng.random() < 0.8 else _numbers(rng, 1, 12, MONTHS)
    return _case(rng, " ".join((_numbers(rng, 0, 59), hour, day, month, weekday)))


def _case(rng: random.Random, line: str) -> str:
    return line.upper() if rng.random() < 0.5 else line


def _numbers(rng: random.Random, low: int, high: int, names: list[str] | None = None) -> str:
    if rng.random() < 0.3:
        return "*" if rng.random() < 0.5 else f"*/{rng.randint(1, high - low + 1)}"
    terms = 1 if rng.random() < 0.7 else rng.randint(2, 4)
    return ",".join(_term(rng, low, high, names) for _ in range(terms))


def _term(rng: random.Random, low: int, high: int, names: list[str] | None) -> str:
    first, last = sorted((rng.randint(low, high), rng.randint(low, high)))
    step = rng.randint(1, high - low + 1)

    def named(number: int) -> str:
        if names and number - low < len(names) and rng.random() < 0.5:
            return names[number - low]
        return str(number)

    match rng.choices(("one", "range", "wrapped", "stepped", "from"), (60, 20, 3, 10, 7))[0]:
        case "one":
            return named(first)
        case "range":
            return f"{named(first)}-{named(last)}"
        case "wrapped":
            return f"{named(last)}-{named(first)}"
        case "stepped":
            return f"{named(first)}-{named(last)}/{step}"
        case _:
            return f"{named(first)}/{step}"


def _days(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.6:
        return "*" if draw < 0.57 else "?"
    if draw < 0.68:
        return rng.choice(("L", "l,15", "1-L", "10-l/5"))
    if draw < 0.72:
        return f"{rng.randint(1, 31)}W" if draw < 0.7 else f"w{rng.randint(1, 31)}"
    return _numbers(rng, 1, 31)


def _weekdays(rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.6:
        return "*" if draw < 0.57 else "?"
    if draw < 0.68:
        days = rng.choices((*WEEKDAYS, *"01234567"), k=rng.randint(1, 2))
        return ",".join(f"{day}#{rng.randint(1, 5)}" for day in days)
    if draw < 0.72:
        return f"L{rng.randint(0, 7)}"
    if draw < 0.74:
        return f"mon-fri#{rng.randint(1, 5)}"
    if draw < 0.76:
        return rng.choice(("sat-sun", "fri-mon", "5-7", "0-7", "1-7/2", "*/2", "mon-mon", "7-2"))
    return _numbers(rng, 0, 6, WEEKDAYS)
