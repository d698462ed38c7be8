"""Integers of more than 64 bits in values that are checked: our JSON form has them as text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from runyard_common.schemas.errors import Fault

Place = tuple[str | int, ...]

#: Python reads no more digits at once than these, and the form has no more.
_MOST_DIGITS: Final = 4_300
_WRITTEN: Final = re.compile(r"-?[1-9][0-9]{18,}\Z", re.ASCII)
_INTEGERS: Final = range(-(2**63), 2**64)


def among(value: Any, faults: Iterable[Fault]) -> list[Place]:
    """The places of faults where the text of such an integer is."""
    return [tuple(place) for place, *_ in faults if _is_one(_at(value, place))]


def restored(value: Any, places: Iterable[Place]) -> Any:
    """The value with integers in these places; what is around them is copied."""
    for place in places:
        value = _with(value, place)
    return value


def _at(value: Any, place: Sequence[str | int]) -> Any:
    try:
        for part in place:
            value = value[part]
    except (LookupError, TypeError):  # the place of a name, say
        return None
    return value


def _is_one(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > _MOST_DIGITS or not _WRITTEN.match(value):
        return False
    return int(value) not in _INTEGERS


def _with(value: Any, place: Place) -> Any:
    if not place:
        return int(value)
    first, rest = place[0], place[1:]
    copied = value.copy()
    copied[first] = _with(value[first], rest)
    return copied
