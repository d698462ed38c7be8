"""When a run must have ended, as callers say it: a date. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from runyard_common.runs.rules.run_request import LONGEST_WAIT
from runyard_common.values.errors import InvalidRequest


def of_date(deadline: str | float | None, now: float) -> float | None:
    """A deadline that is a date, in epoch seconds; one in seconds counts from when the run is stored.

    Error: `InvalidRequest` invalid_deadline for a date that is unreadable, past or far.
    """
    if not isinstance(deadline, str):
        return None
    at = _instant(deadline)
    if (refused := refusal(at, now)) is not None:
        raise refused
    return at


def refusal(at: float | None, now: float) -> InvalidRequest | None:
    """Why this instant is no deadline, if it is none."""
    if at is None or now < at <= now + LONGEST_WAIT:
        return None
    return InvalidRequest(
        "deadline must lie in the future, by 30 days at most.", code="invalid_deadline", field="deadline"
    )


def _instant(text: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(
            "deadline is neither an RFC 3339 date-time (2026-01-31T12:00:00Z) nor a number of seconds.",
            code="invalid_deadline",
            field="deadline",
        ) from None
