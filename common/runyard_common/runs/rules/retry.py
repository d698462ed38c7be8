"""Retry: whether a failed attempt is tried again, when, and at whose cost. Pure.

Each cause class has a budget of its own, stored with the task at submission, so that processes with other
settings judge a task by its own. A drained or redeployed worker spends none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.tasks import Failure

#: budget = extra attempts; base_s doubles per use up to cap_s; jitter shortens by up to half.
DEFAULT_POLICY: Final[dict[str, dict[str, float]]] = {
    Cause.INFRASTRUCTURE: {"budget": 5, "base_s": 0.0, "cap_s": 60.0},
    Cause.PROVIDER: {"budget": 5, "base_s": 2.0, "cap_s": 120.0},
    Cause.AGENT: {"budget": 0, "base_s": 2.0, "cap_s": 300.0},
}
#: The longest wait that a service may ask for, in seconds: more is a mistake of units, or as good as never.
LONGEST_WAIT_S: Final = 86_400.0
#: The policy of a run that gets one attempt.
NO_RETRIES: Final[dict[str, dict[str, float]]] = {cause: {"budget": 0} for cause in DEFAULT_POLICY}


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Again after `delay_s` seconds, or never (`retries` then stays as it was)."""

    again: bool
    delay_s: float
    retries: dict[str, int]


def merged(declared: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Mapping[str, Any]]:
    """The whole policy of an agent that declares `declared`: what it leaves out has its default."""
    given = declared or {}
    causes = {*DEFAULT_POLICY, *given}
    return {cause: {**DEFAULT_POLICY.get(cause, {}), **given.get(cause, {})} for cause in causes}


def decide(
    failure: Failure,
    retries: Mapping[str, int] | None,
    policy: Mapping[str, Mapping[str, Any]] | None,
    chance: float,
) -> RetryDecision:
    """Judge one failure; `chance` in [0, 1) is the jitter's randomness.

    A stored policy without the failure's cause has that cause's default: rows written before policies were merged
    hold only what the agent declared. An empty one allows no retries.
    """
    used = dict(retries or {})
    spent = used.get(failure.cause, 0)
    rule = {} if policy == {} else merged(policy).get(failure.cause, {})
    if not failure.retryable or spent >= rule.get("budget", 0):
        return RetryDecision(False, 0.0, used)
    return RetryDecision(True, _delay(failure, rule, spent, chance), used | {failure.cause.value: spent + 1})


def _delay(failure: Failure, rule: Mapping[str, Any], spent: int, chance: float) -> float:
    # The first retry at base 0 is immediate (the run is not why its worker was lost); later ones back off.
    base = rule.get("base_s", 0.0) or (1.0 if spent else 0.0)
    delay = min(base * 2 ** min(spent, 30), rule.get("cap_s", 60.0)) * (1 - chance / 2)
    return float(max(delay, min(failure.retry_after or 0.0, LONGEST_WAIT_S)))
