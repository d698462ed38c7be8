"""What follows an attempt to deliver: every status, the schedules, Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_api.surfaces.appstrate.surface import RETRIES as APPSTRATE
from runyard_common.webhooks.rules.delivery import (
    DAY,
    NATIVE,
    Dead,
    Decision,
    Delivered,
    DisableEndpoint,
    RetryAt,
    RetrySchedule,
    decide,
    decide_endpoint,
    parse_retry_after,
)

NOW = 1_800_000_000.0
BOTH = pytest.mark.parametrize("schedule", [NATIVE, APPSTRATE], ids=["native", "appstrate"])


def after(
    schedule: RetrySchedule,
    *,
    status: int | None = None,
    error: str | None = None,
    attempt: int = 1,
    retry_after: str | None = None,
    seed: int = 0,
) -> Decision:
    return decide(
        schedule,
        status=status,
        error=error,
        attempt=attempt,
        retry_after=retry_after,
        now=NOW,
        rng=Random(seed),
    )


def wait(decision: Decision) -> float:
    assert isinstance(decision, RetryAt)
    return decision.at - NOW


@BOTH
def test_every_2xx_is_a_delivery_even_at_the_last_attempt(schedule: RetrySchedule) -> None:
    for status in range(200, 300):
        assert after(schedule, status=status, attempt=schedule.attempts) == Delivered()


@BOTH
def test_gone_disables_the_endpoint(schedule: RetrySchedule) -> None:
    assert after(schedule, status=410) == DisableEndpoint("http_410")


@pytest.mark.parametrize(
    ("schedule", "retried"),
    [(NATIVE, {408, 409, 425, 429}), (APPSTRATE, {408, 429})],
    ids=["native", "appstrate"],
)
def test_other_4xx_are_final_but_for_the_ones_that_pass(schedule: RetrySchedule, retried: set[int]) -> None:
    for status in set(range(400, 500)) - {410}:
        decision = after(schedule, status=status)
        if status in retried:
            assert isinstance(decision, RetryAt), status
        else:
            assert decision == Dead(f"http_{status}"), status


@BOTH
def test_redirects_informational_answers_and_5xx_are_tried_again(schedule: RetrySchedule) -> None:
    for status in (101, 199, 300, 301, 302, 304, 307, 308, 500, 502, 503, 504, 599, 999):
        decision = after(schedule, status=status)
        assert isinstance(decision, RetryAt), status
        assert decision.why == f"http_{status}"


@BOTH
def test_a_call_that_failed_is_tried_again_unless_it_was_refused(schedule: RetrySchedule) -> None:
    for code in ("dns_failed", "connect_timeout", "read_timeout", "connection_reset", "tls_failed"):
        decision = after(schedule, error=code)
        assert isinstance(decision, RetryAt), code
        assert decision.why == code
    for code in ("url_refused", "header_refused"):
        assert after(schedule, error=code) == Dead(code)


@BOTH
def test_the_last_attempt_is_the_last(schedule: RetrySchedule) -> None:
    assert isinstance(after(schedule, status=500, attempt=schedule.attempts - 1), RetryAt)
    assert after(schedule, status=500, attempt=schedule.attempts) == Dead("http_500")
    assert after(schedule, error="read_timeout", attempt=schedule.attempts, retry_after="5") == Dead(
        "read_timeout"
    )


def test_the_appstrate_schedule_is_the_contract_s_to_the_second() -> None:
    gaps = [wait(after(APPSTRATE, status=500, attempt=n, seed=n)) for n in range(1, 8)]

    assert gaps == [30, 300, 1800, 3600, 7200, 10_800, 14_400]
    assert APPSTRATE.attempts == 8


def test_the_native_schedule_lasts_about_three_days_and_is_spread() -> None:
    totals = []
    for seed in range(200):
        rng = Random(seed)
        gaps = []
        for attempt in range(1, NATIVE.attempts):
            decision = decide(NATIVE, status=503, attempt=attempt, now=NOW, rng=rng)
            gaps.append(wait(decision))
            assert 0.8 * NATIVE.gaps[attempt - 1] <= gaps[-1] <= 1.2 * NATIVE.gaps[attempt - 1]
        totals.append(sum(gaps))

    assert min(totals) > 2.4 * DAY
    assert max(totals) < 3.6 * DAY
    assert sum(totals) / len(totals) == pytest.approx(3 * DAY, rel=0.05)
    assert len(set(totals)) == 200


class TestRetryAfter:
    def test_a_longer_wait_is_obeyed_and_never_cut_short(self) -> None:
        for seed in range(50):
            assert 120 <= wait(after(NATIVE, status=429, retry_after="120", seed=seed)) <= 132
        assert wait(after(APPSTRATE, status=503, retry_after="120")) == 120

    def test_a_shorter_wait_does_not_hasten_the_schedule(self) -> None:
        assert wait(after(APPSTRATE, status=503, attempt=3, retry_after="1")) == 1800

    def test_it_is_capped_at_a_day(self) -> None:
        assert wait(after(APPSTRATE, status=503, retry_after="99999999999999999999999999")) == DAY
        assert wait(after(NATIVE, status=429, retry_after="Fri, 31 Dec 9999 23:59:59 GMT")) <= 1.1 * DAY

    def test_a_date_is_read(self) -> None:
        date = format_datetime(datetime.fromtimestamp(NOW + 600, UTC), usegmt=True)

        assert parse_retry_after(date, NOW) == 600
        assert wait(after(APPSTRATE, status=429, retry_after=date)) == 600

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "soon",
            "-5",
            "1.5",
            "٣",
            "0",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "1 Feb 2015 00:00:00 99999999999999",
            "Feb 2015 99999999999999 00:00:00 1",
        ],
    )
    def test_what_is_empty_is_passed_over(self, value: str | None) -> None:
        assert parse_retry_after(value, NOW) == 0

    @given(st.text(max_size=40) | st.text("MonJaFeGTZ0123456789:,+- ", max_size=40))
    def test_no_header_breaks_the_decision(self, value: str) -> None:
        assert parse_retry_after(value, NOW) >= 0


@given(
    schedule=st.sampled_from([NATIVE, APPSTRATE]),
    status=st.integers(100, 999),
    attempt=st.integers(1, 30),
    retry_after=st.none() | st.integers(0, 10**9).map(str),
    seed=st.integers(),
)
def test_a_retry_is_always_later_and_within_the_bounds(
    schedule: RetrySchedule, status: int, attempt: int, retry_after: str | None, seed: int
) -> None:
    decision = after(schedule, status=status, attempt=attempt, retry_after=retry_after, seed=seed)

    if isinstance(decision, RetryAt):
        assert attempt < schedule.attempts
        assert NOW < decision.at <= NOW + 1.2 * DAY


def test_an_attempt_without_an_outcome_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="a status or in an error"):
        after(NATIVE)
    with pytest.raises(ValueError, match="a status or in an error"):
        after(NATIVE, status=200, error="read_timeout")


def test_an_endpoint_that_failed_for_days_is_switched_off() -> None:
    assert decide_endpoint(None, NOW) is None
    assert decide_endpoint(NOW - 5 * DAY + 1, NOW) is None
    assert decide_endpoint(NOW - 5 * DAY, NOW) == DisableEndpoint("failing_for_days")
