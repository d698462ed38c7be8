"""The rate of an organisation: so many in a moving minute, by this process and those it shares its counts with."""

from __future__ import annotations

import pytest

from runyard_api.access import request_rates
from runyard_api.access.request_rates import RequestRates
from runyard_common.values.errors import TooManyRequests

MOST = 60


class Clock:
    """A clock that stays where it is put, 10 seconds into a window at first."""

    def __init__(self) -> None:
        self.now = 60_000_010.0 // 60 * 60 + 10

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rates(clock: Clock) -> RequestRates:
    return RequestRates("", MOST, "operator", clock=clock)


def ask(rates: RequestRates, times: int, org_id: str = "one") -> int:
    """Ask so often; how often that was let pass."""
    passed = 0
    for _ in range(times):
        try:
            rates.check(org_id)
        except TooManyRequests:
            continue
        passed += 1
    return passed


def test_as_many_pass_as_the_limit_allows(rates: RequestRates) -> None:
    assert ask(rates, MOST + 20) == MOST


def test_an_organisation_uses_up_its_own_alone_and_the_operators_is_not_limited(
    rates: RequestRates,
) -> None:
    ask(rates, MOST)
    assert ask(rates, MOST, "two") == MOST
    assert ask(rates, 10 * MOST, "operator") == 10 * MOST


def test_as_many_callers_are_counted_as_fit_and_the_first_ones_are_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_rates, "_MOST_CALLERS", 2)
    rates = RequestRates("", 1, kind="This address", clock=clock)
    assert [ask(rates, 2, caller) for caller in ("one", "two")] == [1, 1]
    with pytest.raises(TooManyRequests, match="This address asks more than 1 times in a minute"):
        rates.check("two")
    assert [ask(rates, 2, caller) for caller in ("three", "two", "one")] == [1, 0, 1]


def test_no_limit_lets_everybody_pass(clock: Clock) -> None:
    assert ask(RequestRates("", 0, clock=clock), 1000) == 1000


def test_there_is_room_at_the_time_of_the_refusal(rates: RequestRates, clock: Clock) -> None:
    ask(rates, MOST)
    for _ in range(5):
        with pytest.raises(TooManyRequests) as refused:
            rates.check("one")
        assert refused.value.retry_after is not None
        clock.now += refused.value.retry_after
        rates.check("one")
        while ask(rates, 1):
            pass


def test_the_window_moves_so_that_no_two_limits_pass_within_a_few_seconds(
    rates: RequestRates, clock: Clock
) -> None:
    clock.now += 45  # near the end of a window
    assert ask(rates, MOST) == MOST
    clock.now += 10  # the next one has begun
    assert ask(rates, MOST) < MOST // 4


def test_what_was_refused_does_not_count(rates: RequestRates, clock: Clock) -> None:
    ask(rates, 100 * MOST)
    clock.now += 110
    assert ask(rates, MOST) > MOST // 2
