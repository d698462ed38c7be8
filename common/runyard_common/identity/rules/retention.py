"""How long what has ended is kept: days by status, an organisation's own where it has set some. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runyard_common.runs.rules.lifecycle import TERMINAL, Status
from runyard_common.values.errors import InvalidRequest

DAY_S: Final = 86_400.0
#: The key of an organisation's settings that holds its retention.
SETTING: Final = "retention"
#: What it may name: each terminal status, conversations that are not continued, and what model turns cost.
SESSIONS: Final = "sessions"
USAGE: Final = "usage"
NAMES: Final = (*sorted(status.value for status in TERMINAL), SESSIONS, USAGE)
#: What was spent is kept for the books, also when the tasks that spent it are deleted, in days.
USAGE_DAYS: Final = 400.0
#: The audit log, and the keys that it names, for the whole installation: who can change it must not shorten it.
AUDIT_DAYS: Final = 400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds that things are kept after their end; None: for ever."""

    by_status: Mapping[Status, float | None]
    sessions: float | None
    usage: float | None

    @staticmethod
    def of(settings: Any, default_days: float) -> Retention:
        """The retention of an organisation's settings; what they leave out, or cannot mean, is kept `default_days`.

        Usage is kept `USAGE_DAYS` then, or for as long as tasks if that is longer.
        """
        given = settings.get(SETTING) if isinstance(settings, Mapping) else None
        own = given if isinstance(given, Mapping) else {}

        def kept(name: str, default: float = default_days) -> float | None:
            days = own.get(name, default)
            if days is None:
                return None
            return DAY_S * (days if _is_days(days) else default)

        by_status = {status: kept(status.value) for status in sorted(TERMINAL)}
        return Retention(by_status, kept(SESSIONS), kept(USAGE, max(USAGE_DAYS, default_days)))

    def to_json(self) -> dict[str, float | None]:
        """Days by name, null for ever."""
        seconds = {status.value: kept for status, kept in self.by_status.items()}
        named = seconds | {SESSIONS: self.sessions, USAGE: self.usage}
        return {name: None if kept is None else kept / DAY_S for name, kept in named.items()}


def check_retention(value: Any, field: str = SETTING) -> dict[str, float | None]:
    """Refuse what cannot be an organisation's retention: `InvalidRequest` invalid_retention, or the value."""
    if not isinstance(value, Mapping):
        raise _invalid(f"Write days by status: {', '.join(NAMES)}.", field)
    for name, days in value.items():
        if name not in NAMES:
            raise _invalid(f"There is no {str(name)[:40]!r}; use {', '.join(NAMES)}.", f"{field}.{name}")
        if days is not None and not _is_days(days):
            raise _invalid("A number of days above 0, or null for ever.", f"{field}.{name}")
    return dict(value)


def _is_days(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 < value <= 36_525
    )


def _invalid(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_retention", field=field)
