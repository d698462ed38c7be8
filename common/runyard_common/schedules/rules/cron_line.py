"""Reading a five-field cron line: croniter's grammar, with refusals that name the field at fault."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from croniter import croniter

from runyard_common.schedules.rules.cron import Cron, DayRule, Nth
from runyard_common.values.errors import ScheduleError

ALIASES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
MAX_LENGTH = 500

_RANGE = re.compile(r"(\w+)-(\w+)([/#]\d+)?", re.ASCII)
_ZONED = re.compile(r"\s*(?:CRON_)?TZ=(\S+)\s*", re.IGNORECASE)
_EVERY = re.compile(r"@every\s+(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:0s)?")
_BEFORE_LAST = re.compile(r"l-(\d{1,3})", re.ASCII)
_LAST = re.compile(r"(\d|[a-z]{3})l", re.ASCII)
_WORD = re.compile(r"[a-z]{4,}")
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
_IN_FULL: dict[str, str] = {
    name.lower(): name[:3].lower() for name in (*calendar.month_name, *calendar.day_name) if name
}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}

_FIELDS = (
    _Field("minute", 0, 59, {}, "minutes are 0-59"),
    _Field("hour", 0, 23, {}, "hours are 0-23"),
    _Field(
        "day-of-month", 1, 31, {},
        "days are 1-31, L for the last one, L-3 for the third before it, or a single 15W or LW",
    ),
    _Field("month", 1, 12, _MONTHS, "months are 1-12 or JAN-DEC"),
    _Field(
        "day-of-week", 0, 7, _WEEKDAYS,
        "weekdays are 0-7 or SUN-SAT (0 and 7 are Sunday), or FRI#2 (the second Friday), FRIL or L5 (the last one)",
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
    before_last, days = _before_last(tokens[2])
    known = [*tokens[:2], days or "*", *tokens[3:]]
    try:
        read = croniter(" ".join(known), start_time=0)
    except ValueError as error:
        raise _name_the_field(known) from error
    line = " ".join(expression.split())
    cron = _cron(line, tokens, read)
    if before_last:
        dates = cron.day_rule.days if days else frozenset[int]()
        cron = replace(cron, day_rule=replace(cron.day_rule, days=dates, before_last=before_last))
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
    if zoned := _ZONED.match(line):
        raise _bad(
            f"The zone of a cron line is named by the field `timezone`: send timezone {zoned[1]!r} and the line"
            f" {line[zoned.end() :].strip()!r}."
        )
    line = line.strip().lower()
    if line.startswith("@"):
        if line not in ALIASES:
            raise _unknown_alias(line)
        line = " ".join(croniter(line, start_time=0).expressions)
    tokens = line.split()
    if len(tokens) != len(_FIELDS):
        extra = " Leave out the seconds and the year." if len(tokens) in (6, 7) else ""
        raise _bad(
            f"{line!r} has {len(tokens)} fields; a cron line has five:"
            f" minute, hour, day-of-month, month, day-of-week.{extra}"
        )
    return [_field(token, kind) for token, kind in zip(tokens, _FIELDS, strict=True)]


def _unknown_alias(line: str) -> ScheduleError:
    """The refusal of an alias, with what to write instead."""
    if line == "@reboot":
        return _bad(
            "'@reboot' is no time: nothing here starts with a machine. Submit the run when your system starts."
        )
    if line.startswith("@every"):
        every = _EVERY.fullmatch(line)
        spelling = _every(int(every[1] or 0) * 60 + int(every[2] or 0)) if every else None
        hint = (
            f"Write {spelling!r}."
            if spelling
            else "Write a step that divides the hour or the day, such as '*/5 * * * *' or '0 */6 * * *'."
        )
        return _bad(f"{line!r} is not read: a cron line names times of the clock. {hint}")
    return _bad(f"{line!r} is not known. Use five fields, or one of {', '.join(ALIASES)}.")


def _every(minutes: int) -> str | None:
    """The line that fires each so many minutes; None where the hour or the day is no multiple of them."""
    if 0 < minutes < 60:
        return f"*/{minutes} * * * *" if 60 % minutes == 0 else None
    hours, rest = divmod(minutes, 60)
    if rest or hours == 0 or 24 % hours:
        return None
    return {1: "@hourly", 24: "@daily"}.get(hours, f"0 */{hours} * * *")


def _before_last(token: str) -> tuple[frozenset[int], str]:
    """The days before the last one that the day-of-month field names (L-3), and the rest of the field."""
    terms = token.split(",")
    found = {term: int(match[1]) for term in terms if (match := _BEFORE_LAST.fullmatch(term))}
    if wrong := next((term for term, days in found.items() if not 1 <= days <= 30), None):
        raise _bad(
            f"{wrong!r} in the day-of-month field: L-1 to L-30 are the days before the last one, L itself."
        )
    return frozenset(found.values()), ",".join(term for term in terms if term not in found)


def _name_the_field(tokens: list[str]) -> ScheduleError:
    """The refusal of a line croniter refused: each field is tried by itself, to name the one at fault."""
    for position, (token, kind) in enumerate(zip(tokens, _FIELDS, strict=True)):
        fields = ["*"] * len(_FIELDS)
        fields[position] = token
        if not croniter.is_valid(" ".join(fields)):
            return _bad(f"The {kind.name} field {token!r} is not understood: {kind.help}.")
    return _bad(f"The cron line {' '.join(tokens)!r} is not understood.")


def _field(token: str, kind: _Field) -> str:
    terms = [_short(term, kind) for term in token.split(",")]
    if kind.name == "day-of-week" and len({term.startswith("l") or "#" in term for term in terms}) > 1:
        raise _bad(f"The day-of-week field {token!r} mixes plain weekdays with # or L. Use two schedules.")
    return ",".join(_term(term, kind) for term in terms)


def _short(term: str, kind: _Field) -> str:
    """Names in full cut to three letters, and Quartz's forms of the last weekday as croniter writes them."""
    if kind.names:
        term = _WORD.sub(_short_word, term)
    if kind.name == "day-of-month" and term in ("lw", "wl"):
        return "31w"  # the weekday nearest to the end of the month, of any length
    if kind.name != "day-of-week":
        return term
    if (last := _LAST.fullmatch(term)) is None:
        return term
    if last[1].isdigit():
        named = calendar.day_abbr[(int(last[1]) - 1) % 7].upper()
        raise _bad(
            f"{term!r} in the day-of-week field is not clear: Quartz counts weekdays from Sunday as 1, cron as 0."
            f" Write L{last[1]} or {named}L for the last {calendar.day_name[(int(last[1]) - 1) % 7]}."
        )
    return f"l{_WEEKDAYS[last[1]]}" if last[1] in _WEEKDAYS else term


def _short_word(found: re.Match[str]) -> str:
    """A name in full cut to three letters; the l of "fridayl" stays."""
    word: str = found[0]
    if word not in _IN_FULL and word.endswith("l") and word[:-1] in _IN_FULL:
        return _IN_FULL[word[:-1]] + "l"
    return _IN_FULL.get(word, word)


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
        before_last=frozenset(),
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
