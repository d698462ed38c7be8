# ruff: noqa: DTZ001 - wall times are naive on purpose
"""IANA zones, and what a wall-clock time means on the days a zone shifts its clocks."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from runyard_common.values.errors import ScheduleError

_EPOCH = datetime(1970, 1, 1)

#: The last second that has a date of four digits in UTC, in epoch seconds.
LAST_INSTANT: Final = 253_402_300_799.0


class WallTime(NamedTuple):
    """When a zone's clocks show one wall time. Instants are whole seconds since the epoch."""

    first: int  # a skipped wall time: the first instant after the jump
    second: int  # the second pass of a doubled wall time; otherwise the same as `first`
    skipped: bool  # the clocks jump over this wall time

    @property
    def doubled(self) -> bool:
        """Whether the clocks show this wall time twice."""
        return self.first != self.second


@cache
def zone_names() -> frozenset[str]:
    """Every zone name of the IANA database, as the `tzdata` package lists them."""
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def zone_named(name: object, *, field: str = "timezone") -> ZoneInfo:
    """The zone called `name` (case matters), or `ScheduleError` ``bad_timezone``."""
    if isinstance(name, str) and name in zone_names():
        return _zone(name)
    shown = repr(name[:64] if isinstance(name, str) else name)[:80]
    message = f"{shown} is not an IANA time zone. {_suggestion(name)}"
    raise ScheduleError(message, code="bad_timezone", field=field)


@cache
def _zone(name: str) -> ZoneInfo:
    """`ZoneInfo` itself holds on to eight zones only and reads the others again."""
    return ZoneInfo(name)


def _suggestion(name: object) -> str:
    by_city = {zone.rpartition("/")[2].lower(): zone for zone in sorted(zone_names())}
    by_folded = by_city | {zone.lower(): zone for zone in zone_names()}
    wanted = name.strip().lower().replace(" ", "_")[:64] if isinstance(name, str) else ""
    near = difflib.get_close_matches(wanted, by_folded, n=1, cutoff=0.8)
    if near:
        return f"Did you mean {by_folded[near[0]]!r}?"
    return "Give a name such as 'UTC', 'Europe/Berlin' or 'America/New_York', not an offset or abbreviation."


def wall_at(instant: float, zone: ZoneInfo) -> datetime:
    """What the zone's clocks show at `instant`: aware, `fold` 1 on the second pass of a doubled time."""
    return datetime.fromtimestamp(instant, zone)


def read_wall(wall: datetime, zone: ZoneInfo) -> WallTime:
    """When the zone's clocks show the naive `wall` (whole seconds).

    With the offset before a shift (fold 0) a skipped wall time lands after its jump, with the one after it
    (fold 1) before.
    """
    early, late = _instant(wall, zone, fold=0), _instant(wall, zone, fold=1)
    if early <= late:
        return WallTime(early, late, skipped=False)
    jump = _shift_between(late, early, zone)
    return WallTime(jump, jump, skipped=True)


def set_back_to(wall: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks show right after the shift that doubles the naive `wall`. Naive."""
    wall_time = read_wall(wall, zone)
    return wall_at(_shift_between(wall_time.first, wall_time.second, zone), zone).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, zone: ZoneInfo, *, fold: int) -> int:
    offset = wall.replace(tzinfo=zone, fold=fold).utcoffset()
    assert offset is not None  # a ZoneInfo always knows its offset
    span = wall - _EPOCH - offset
    return span.days * 86_400 + span.seconds


def _shift_between(before: int, after: int, zone: ZoneInfo) -> int:
    """The first instant with the offset in force at `after`, where `before` has another one."""
    wanted = _offset(after, zone)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(middle, zone) == wanted:
            after = middle
        else:
            before = middle
    return after


def _offset(instant: int, zone: ZoneInfo) -> timedelta | None:
    return wall_at(instant, zone).utcoffset()


def utc_text(instant: float) -> str:
    """`instant` as ISO 8601 in UTC, for messages."""
    return datetime.fromtimestamp(instant, UTC).isoformat().replace("+00:00", "Z")
