"""The circuit breaker: opens after failures in a row, tries once, closes or waits longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_common.webhooks.rules.breaker import (
    Breaker,
    BreakerPolicy,
    Circuit,
    admit,
    blames_host,
    call_off,
    fail,
    succeed,
)

POLICY = BreakerPolicy(failures=3, pause=10, longest_pause=60, trial=30)
FRESH = Breaker()


def failed(breaker: Breaker, times: int, now: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker = fail(breaker, now, POLICY)
    return breaker


def test_it_opens_at_the_last_of_the_failures_in_a_row() -> None:
    assert admit(failed(FRESH, 2), 0, POLICY).allowed

    admission = admit(failed(FRESH, 3), 5, POLICY)
    assert not admission.allowed
    assert admission.retry_at == 10
    assert admission.breaker.circuit is Circuit.OPEN


def test_a_success_between_starts_the_count_again() -> None:
    breaker = failed(succeed(failed(FRESH, 2)), 2)

    assert breaker.circuit is Circuit.CLOSED


def test_failures_of_calls_already_under_way_do_not_lengthen_the_pause() -> None:
    breaker = failed(failed(FRESH, 3, now=0), 20, now=9)

    assert breaker.retry_at == 10
    assert breaker.openings == 1


def test_after_the_pause_exactly_one_call_tries() -> None:
    first = admit(failed(FRESH, 3), 10, POLICY)
    second = admit(first.breaker, 10, POLICY)

    assert first.allowed
    assert first.breaker.circuit is Circuit.HALF_OPEN
    assert not second.allowed
    assert second.retry_at == 40


def test_a_trial_that_succeeds_closes_it() -> None:
    trial = admit(failed(FRESH, 3), 10, POLICY).breaker

    assert succeed(trial) == FRESH
    assert admit(succeed(trial), 10, POLICY).allowed


def test_a_trial_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = failed(FRESH, 3), 0.0, []
    for _ in range(6):
        pauses.append(breaker.retry_at - now)
        now = breaker.retry_at
        breaker = fail(admit(breaker, now, POLICY).breaker, now, POLICY)

    assert pauses == [10, 20, 40, 60, 60, 60]


def test_a_trial_without_a_report_goes_to_the_next_caller() -> None:
    lost = admit(failed(FRESH, 3), 10, POLICY).breaker

    assert not admit(lost, 39.9, POLICY).allowed
    assert admit(lost, 40, POLICY).allowed


def test_a_trial_that_was_called_off_is_the_next_callers_at_once() -> None:
    opened = Breaker()
    for _ in range(BreakerPolicy().failures):
        opened = fail(opened, 100.0)
    trial = admit(opened, opened.retry_at).breaker
    now = opened.retry_at + 1.0
    assert not admit(trial, now).allowed
    assert admit(call_off(trial, now), now).allowed
    assert call_off(trial, now).openings == opened.openings, "the pause goes on to grow"
    assert call_off(Breaker(), now) == Breaker()


def test_it_counts_years_of_failures_without_overflow() -> None:
    assert fail(Breaker(Circuit.HALF_OPEN, 5000, 5000, 0), 0, POLICY).retry_at == 60


@given(st.lists(st.sampled_from(["call", "fail", "succeed", "wait"]), max_size=60))
def test_it_never_keeps_calls_away_for_longer_than_the_longest_pause(steps: list[str]) -> None:
    breaker, now = FRESH, 0.0
    for step in steps:
        admission = admit(breaker, now, POLICY)
        assert admission.retry_at <= now + POLICY.longest_pause
        assert admission.allowed == (admission.retry_at <= now)
        match step:
            case "call":
                breaker = admission.breaker
            case "fail":
                breaker = fail(breaker, now, POLICY)
            case "succeed":
                breaker = succeed(breaker)
                assert admit(breaker, now, POLICY).allowed
            case _:
                now += 7


@pytest.mark.parametrize("error", ["dns_failed", "connect_timeout", "read_timeout", "tls_failed"])
def test_no_answer_is_the_host_s_fault(error: str) -> None:
    assert blames_host(error=error)


@pytest.mark.parametrize(
    "error", ["url_refused", "header_refused", "seal_broken", "pool_timeout", "internal_error"]
)
def test_our_own_refusal_is_not(error: str) -> None:
    assert not blames_host(error=error)


def test_a_gateway_s_answer_blames_the_host_and_a_quick_error_of_one_path_does_not() -> None:
    assert [status for status in range(100, 600) if blames_host(status)] == [502, 503, 504]
