"""A circuit breaker for one host: after a run of failures calls wait, then one call tries whether it is back.

Pure: every function returns the breaker as it is afterwards. Keep one per host (and per organisation, where
hosts are shared and one organisation's broken endpoint must not hold up another's). Times are epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Circuit(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"  # calls go through
    OPEN = "open"  # calls wait until `retry_at`
    HALF_OPEN = "half_open"  # one call is trying; the others wait for its outcome


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`failures` in a row open it for `pause` seconds, doubled each time the trial fails, to `longest_pause`.

    A trial without a report within `trial` seconds (its process died) is given to the next caller.
    """

    failures: int = 5
    pause: float = 10.0
    longest_pause: float = 600.0
    trial: float = 30.0


DEFAULT: Final = BreakerPolicy()


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state for one host. `failures` are in a row; `openings` counts openings since the last success."""

    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    openings: int = 0
    retry_at: float = 0.0  # open: when a trial may start; half open: when the trial counts as lost


@dataclass(frozen=True, slots=True)
class Admission:
    """`breaker` afterwards; the call goes ahead if `allowed`, else no earlier than `retry_at`."""

    breaker: Breaker
    allowed: bool
    retry_at: float


def admit(breaker: Breaker, now: float, policy: BreakerPolicy = DEFAULT) -> Admission:
    """May a call be made at `now`? The one that is let through an open circuit becomes its trial."""
    if breaker.circuit is Circuit.CLOSED:
        return Admission(breaker, True, now)
    if now < breaker.retry_at:
        return Admission(breaker, False, breaker.retry_at)
    trial = replace(breaker, circuit=Circuit.HALF_OPEN, retry_at=now + policy.trial)
    return Admission(trial, True, now)


def succeed(breaker: Breaker) -> Breaker:
    """The host answered: what was before is forgotten."""
    return breaker if breaker == _FRESH else _FRESH


def fail(breaker: Breaker, now: float, policy: BreakerPolicy = DEFAULT) -> Breaker:
    """The host did not answer. Calls that began before the circuit opened do not lengthen its pause."""
    failures = breaker.failures + 1
    if breaker.circuit is Circuit.OPEN or (breaker.circuit is Circuit.CLOSED and failures < policy.failures):
        return replace(breaker, failures=failures)
    pause = min(policy.pause * 2.0 ** min(breaker.openings, 30), policy.longest_pause)
    return Breaker(Circuit.OPEN, failures, breaker.openings + 1, now + pause)


def call_off(breaker: Breaker, now: float) -> Breaker:
    """A call ended without having tried the host: if it was the trial, the next caller's is, at once."""
    if breaker.circuit is not Circuit.HALF_OPEN:
        return breaker
    return replace(breaker, circuit=Circuit.OPEN, retry_at=now)


def blames_host(status: int | None = None, error: str | None = None) -> bool:
    """Whether an attempt's outcome shows that the host is away: no answer, or a gateway's answer for it.

    A quick 500 or 404 is a fault of one path on a host that works; refusals are ours.
    """
    if error is not None:
        return error not in _NOT_THE_HOST
    return status in _GATEWAY


_FRESH: Final = Breaker()
_NOT_THE_HOST: Final = frozenset(
    {"url_refused", "header_refused", "secret_invalid", "seal_broken", "pool_timeout", "internal_error"}
)
_GATEWAY: Final = frozenset({502, 503, 504})
