"""Token counts as providers send them: null, texts, fractions, or not at all. No usable count is no usage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

#: More tokens than any answer uses: a count beyond is an error of the server's.
_MOST: Final = 10**9


def count(value: Any) -> int | None:
    """A number of tokens; None for what is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= _MOST:
        return int(value)
    return None


def usage(given: Any, required: Sequence[str]) -> dict[str, Any] | None:
    """The counts of a usage object and of the objects in it; None where none of the required ones is usable.

    Required ones that are missing are 0. Fields that are no counts stay as they are.
    """
    if not isinstance(given, dict):
        return None
    found = _counts(given)
    if all(not isinstance(found.get(name), int) for name in required):
        return None
    return {**dict.fromkeys(required, 0), **found}


def _counts(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, dict):
            found[name] = _counts(value)
        elif (usable := count(value)) is not None:
            found[name] = usable
        elif isinstance(value, str | list) and not _named_as_count(name):
            found[name] = value
    return found


def _named_as_count(name: str) -> bool:
    return "token" in name.lower()
