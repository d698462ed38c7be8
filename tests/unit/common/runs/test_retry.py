"""Retry budgets: each cause class pays for its own."""

from __future__ import annotations

import pytest

from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.retry import DEFAULT_POLICY, LONGEST_WAIT_S, NO_RETRIES, decide, merged
from runyard_common.runs.rules.tasks import Failure


def failure(cause: Cause, retryable: bool = True, retry_after: float | None = None) -> Failure:
    return Failure("code", "message", cause, retryable, retry_after)


def test_the_first_lost_worker_is_made_good_at_once() -> None:
    verdict = decide(failure(Cause.INFRASTRUCTURE), None, None, 0.0)
    assert (verdict.again, verdict.delay_s, verdict.retries) == (True, 0.0, {"infrastructure": 1})


def test_later_retries_back_off_and_doubling_is_capped() -> None:
    delays = [decide(failure(Cause.PROVIDER), {"provider": n}, None, 0.0).delay_s for n in range(5)]
    assert delays == [2.0, 4.0, 8.0, 16.0, 32.0]
    patient = {"provider": {"budget": 99, "base_s": 2.0, "cap_s": 120.0}}
    assert decide(failure(Cause.PROVIDER), {"provider": 60}, patient, 0.0).delay_s == 120.0


def test_jitter_shortens_by_up_to_half() -> None:
    assert decide(failure(Cause.PROVIDER), None, None, 0.999).delay_s == pytest.approx(1.0, rel=0.01)


def test_a_spent_budget_ends_the_run() -> None:
    spent = {"infrastructure": int(DEFAULT_POLICY[Cause.INFRASTRUCTURE]["budget"])}
    assert not decide(failure(Cause.INFRASTRUCTURE), spent, None, 0.0).again


def test_one_causes_spending_leaves_the_others_budget_alone() -> None:
    verdict = decide(failure(Cause.PROVIDER), {"infrastructure": 5}, None, 0.0)
    assert verdict.again
    assert verdict.retries == {"infrastructure": 5, "provider": 1}


def test_an_agents_error_is_not_retried_unless_it_declares_a_budget() -> None:
    assert not decide(failure(Cause.AGENT), None, None, 0.0).again
    assert decide(failure(Cause.AGENT), None, {"agent": {"budget": 1}}, 0.0).again


def test_what_is_not_retryable_ends_the_run_with_any_budget() -> None:
    assert not decide(failure(Cause.PROVIDER, retryable=False), None, None, 0.0).again


def test_a_providers_retry_after_is_obeyed() -> None:
    assert decide(failure(Cause.PROVIDER, retry_after=30.0), None, None, 0.9).delay_s == 30.0


def test_a_task_is_judged_by_the_policy_it_was_submitted_with() -> None:
    assert not decide(failure(Cause.INFRASTRUCTURE), None, {"infrastructure": {"budget": 0}}, 0.0).again


@pytest.mark.parametrize("declared", [{"agent": {"budget": 2}}, {"provider": {"budget": 0}}, {}])
def test_what_an_agent_declares_changes_no_other_causes_budget(declared: dict[str, dict[str, float]]) -> None:
    policy = merged(declared)
    for cause, rule in DEFAULT_POLICY.items():
        assert policy[cause] == rule | declared.get(cause, {})
    assert decide(failure(Cause.INFRASTRUCTURE), None, policy, 0.0).again


def test_a_stored_policy_without_a_cause_has_that_causes_default_and_an_empty_one_allows_none() -> None:
    stored = {"agent": {"budget": 2, "base_s": 2.0, "cap_s": 300.0}}
    assert decide(failure(Cause.INFRASTRUCTURE), None, stored, 0.0).again
    assert decide(failure(Cause.PROVIDER), None, stored, 0.0).again
    assert not decide(failure(Cause.INFRASTRUCTURE), None, {}, 0.0).again
    assert not any(decide(failure(cause), None, NO_RETRIES, 0.0).again for cause in Cause)


def test_a_service_cannot_park_a_run_for_longer_than_a_day() -> None:
    assert decide(failure(Cause.PROVIDER, retry_after=1e9), None, None, 0.0).delay_s == LONGEST_WAIT_S
