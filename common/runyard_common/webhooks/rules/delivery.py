"""What to do after an attempt to deliver a callback: pure decisions, written by the caller.

The rules are the Standard Webhooks specification's; a surface may have a schedule of its own. Times are epoch
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random
from typing import Final

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """When a failed delivery is tried again.

    `gaps` are the seconds between one attempt and the next, so there is one attempt more than gaps. Each gap
    is stretched or shrunk by up to `jitter` of itself: deliveries that failed together do not come back
    together. `retried` are the 4xx statuses that a later attempt may cure; other 4xx are final. A Retry-After
    longer than the gap is obeyed up to `longest_wait` seconds.
    """

    gaps: tuple[float, ...]
    jitter: float
    retried: frozenset[int]
    longest_wait: float

    @property
    def attempts(self) -> int:
        """How many attempts there are in all."""
        return len(self.gaps) + 1


#: 13 attempts over about three days: most failures are a restart, some a night, a few a weekend.
NATIVE: Final = RetrySchedule(
    gaps=(
        5, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE,
        HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, 20 * HOUR, DAY,
    ),
    jitter=0.2,
    retried=frozenset({408, 409, 425, 429}),
    longest_wait=DAY,
)  # fmt: skip

#: Failures of a call that the same call would meet again: the guard refuses it, or the request itself is invalid.
FINAL_ERRORS: Final = frozenset({"url_refused", "header_refused", "secret_invalid"})

#: An endpoint that has failed for this long without one success is switched off, in seconds.
LONG_FAILURE: Final = 5 * DAY


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver took it."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again at `at`."""

    at: float
    why: str


@dataclass(frozen=True, slots=True)
class Dead:
    """No attempt is left or none would help; it stays visible and can be sent again by hand."""

    why: str


@dataclass(frozen=True, slots=True)
class DisableEndpoint:
    """As `Dead`, and the endpoint gets nothing more until someone enables it."""

    why: str


Decision = Delivered | RetryAt | Dead | DisableEndpoint


def decide(
    schedule: RetrySchedule,
    *,
    status: int | None = None,
    error: str | None = None,
    attempt: int,
    retry_after: str | None = None,
    now: float,
    rng: Random,
) -> Decision:
    """What follows attempt number `attempt` (from 1), which ended in an HTTP `status` or in an `error` code.

    `retry_after` is the answer's header, as it came. Redirects are failures: they are not followed.
    """
    if (status is None) == (error is None):
        raise ValueError("an attempt ends in a status or in an error")
    why = error or f"http_{status}"
    if status is not None:
        if 200 <= status < 300:
            return Delivered()
        if status == 410:
            return DisableEndpoint(why)
        if 400 <= status < 500 and status not in schedule.retried:
            return Dead(why)
    elif error in FINAL_ERRORS:
        return Dead(why)
    if attempt >= schedule.attempts:
        return Dead(why)
    return RetryAt(now + _wait(schedule, attempt, parse_retry_after(retry_after, now), rng), why)


def decide_endpoint(failing_since: float | None, now: float) -> DisableEndpoint | None:
    """Whether an endpoint that has only failed since `failing_since` is switched off."""
    if failing_since is None or now - failing_since < LONG_FAILURE:
        return None
    return DisableEndpoint("failing_for_days")


def parse_retry_after(value: str | None, now: float) -> float:
    """Seconds to wait by a Retry-After header, number or date (RFC 9110 §10.2.3); 0 without one."""
    if value is None:
        return 0.0
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])  # a longer number is beyond any cap, and too long for a float
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # numbers too large for a date
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


def _wait(schedule: RetrySchedule, attempt: int, asked: float, rng: Random) -> float:
    """The gap with its jitter, or what the receiver asked for if that is longer, never earlier than asked."""
    gap = schedule.gaps[attempt - 1]
    jittered = gap * rng.uniform(1 - schedule.jitter, 1 + schedule.jitter)
    asked = min(asked, schedule.longest_wait)
    return max(jittered, asked * rng.uniform(1, 1 + schedule.jitter / 2))
