"""Reading a five-field cron line: croniter's grammar, with refusals that name the field at fault."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from croniter import croniter

from common.domain.cron import Cron, DayRule, Nth
from common.domain.schedule_error import ScheduleError

ALIASES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
MAX_LENGTH = 500

_RANGE = re.compile(r"(\w+)-(\w+)([/#]\d+)?", re.ASCII)
_STEP = re.compile(r".*/(\d+)", re.ASCII)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: dict[str, int]
    help: str

    def value(self, text: str) -> int | None:
        return int(text) if text.isdigit() else self.names.get(text)


_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}

_FIELDS = (
    _Field("minute", 0, 59, {}, "minutes are 0-59"),
    _Field("hour", 0, 23, {}, "hours are 0-23"),
    _Field("day-of-month", 1, 31, {}, "days are 1-31, L for the last one, or a single 15W"),
    _Field("month", 1, 12, _MONTHS, "months are 1-12 or JAN-DEC"),
    _Field(
        "day-of-week", 0, 7, _WEEKDAYS,
        "weekdays are 0-7 or SUN-SAT (0 and 7 are Sunday), or FRI#2 (the second Friday), L5 (the last one)",
    ),
)  # fmt: skip


def read_cron(expression: str, *, field: str = "schedule") -> Cron:
    """What `expression` names, or `ScheduleError` ``bad_cron`` or ``cron_never_fires``."""
    try:
        return _read(expression)
    except ScheduleError as refusal:
        refusal.field = field
        raise


@lru_cache(maxsize=4_096)
def _read(expression: str) -> Cron:
    tokens = _tokens(expression)
    try:
        read = croniter(" ".join(tokens), start_time=0)
    except ValueError as error:
        raise _name_the_field(tokens) from error
    line = " ".join(expression.split())
    cron = _cron(line, tokens, read)
    if not cron.fires_ever():
        raise ScheduleError(
            f"The cron line {line!r} never fires: no month it names has such a day. Change its day or month.",
            code="cron_never_fires",
        )
    return cron


def _tokens(line: str) -> list[str]:
    """The five fields in lower case, each written so that croniter reads it as cron does."""
    if len(line) > MAX_LENGTH:
        raise _bad(f"A cron line has at most {MAX_LENGTH} characters; this one has {len(line)}.")
    line = line.strip().lower()
    if line.startswith("@"):
        if line not in ALIASES:
            raise _bad(f"{line!r} is not known. Use five fields, or one of {', '.join(ALIASES)}.")
        line = " ".join(croniter(line, start_time=0).expressions)
    tokens = line.split()
    if len(tokens) != len(_FIELDS):
        extra = " Leave out the seconds and the year." if len(tokens) in (6, 7) else ""
        raise _bad(
            f"{line!r} has {len(tokens)} fields; a cron line has five:"
            f" minute, hour, day-of-month, month, day-of-week.{extra}"
        )
    return [_field(token, kind) for token, kind in zip(tokens, _FIELDS, strict=True)]


def _name_the_field(tokens: list[str]) -> ScheduleError:
    """The refusal of a line croniter refused: each field is tried alone, to name the one at fault."""
    for position, (token, kind) in enumerate(zip(tokens, _FIELDS, strict=True)):
        alone = ["*"] * len(_FIELDS)
        alone[position] = token
        if not croniter.is_valid(" ".join(alone)):
            return _bad(f"The {kind.name} field {token!r} is not understood: {kind.help}.")
    return _bad(f"The cron line {' '.join(tokens)!r} is not understood.")


def _field(token: str, kind: _Field) -> str:
    terms = token.split(",")
    if kind.name == "day-of-week" and len({term.startswith("l") or "#" in term for term in terms}) > 1:
        raise _bad(f"The day-of-week field {token!r} mixes plain weekdays with # or L. Use two schedules.")
    return ",".join(_term(term, kind) for term in terms)


def _term(term: str, kind: _Field) -> str:
    """One member of a list, without the forms that croniter reads differently from cron."""
    if term[:1] in {"h", "r"}:
        raise _bad(
            f"The {kind.name} field {term!r} asks for a hashed or random value. Write a number;"
            " jitter spreads schedules."
        )
    step = _STEP.fullmatch(term)
    if step and int(step[1]) > kind.high - kind.low + 1:
        raise _bad(
            f"The step of {term!r} is longer than the {kind.name} field, so it would never be taken:"
            f" {kind.help}, and start again. For a longer interval, use the next field."
        )
    return _range(term, kind)


def _range(term: str, kind: _Field) -> str:
    """croniter widens ``5-5`` to the whole field and miscounts the steps of a range that wraps round."""
    parts = _RANGE.fullmatch(term)
    if parts is None:
        return term
    low, high, suffix = kind.value(parts[1]), kind.value(parts[2]), parts[3] or ""
    if kind.name == "day-of-month" and parts[2] == "l":
        high = kind.high
    if kind.name == "day-of-week" and low == 7:
        low, high = 0, 0 if high == 7 else high
    if low is None or high is None:
        return term
    if low == high:
        return f"{low}{suffix}" if suffix.startswith("#") else str(low)
    if low > high and suffix.startswith("/"):
        raise _bad(f"{term!r} in the {kind.name} field runs backwards by steps. List its values instead.")
    return term


def _cron(line: str, tokens: list[str], read: croniter) -> Cron:
    minutes, hours, days, months, weekdays = (
        _values(values, kind) for values, kind in zip(read.expanded, _FIELDS, strict=True)
    )
    nth = frozenset((int(day) % 7, _nth(n)) for day, ns in read.nth_weekday_of_month.items() for n in ns)
    nearest = frozenset(read.nearest_weekday)
    rule = DayRule(
        days=frozenset() if nearest else frozenset(days),
        last_day="l" in read.expanded[2],
        nearest_weekday=nearest,
        weekdays=frozenset() if nth else frozenset(weekdays),
        nth_weekdays=nth,
        both=_open(tokens[2]) or _open(tokens[4]),
    )
    interval = _open(tokens[0]) or _open(tokens[1])
    return Cron(line, tuple(minutes), tuple(hours), tuple(months), rule, interval)


def _values(values: Sequence[object], kind: _Field) -> list[int]:
    high = 6 if kind.name == "day-of-week" else kind.high
    if "*" in values:
        return list(range(kind.low, high + 1))
    return sorted(value for value in values if isinstance(value, int))


def _nth(value: object) -> Nth:
    return value if isinstance(value, int) else "l"


def _open(token: str) -> bool:
    return token.startswith(("*", "?"))


def _bad(message: str) -> ScheduleError:
    return ScheduleError(message, code="bad_cron")
