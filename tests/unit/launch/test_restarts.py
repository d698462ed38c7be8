"""When a child is started again and when it is given up."""

from __future__ import annotations

import pytest

from runyard_launch.supervisor.children import (
    CALM_SECONDS,
    CANNOT_WORK,
    GIVE_UP_AFTER,
    LONGEST_DELAY,
    STEADY_SECONDS,
    Restarts,
)


def test_delays_double_up_to_a_longest_one() -> None:
    delays = []
    restarts = Restarts()
    for _ in range(8):
        restarts = restarts.after(lived=0.1, code=1)
        delays.append(restarts.delay)
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert delays[-1] == LONGEST_DELAY


def test_instant_deaths_in_a_row_are_given_up() -> None:
    restarts = Restarts()
    for _ in range(GIVE_UP_AFTER - 1):
        restarts = restarts.after(lived=0.1, code=1)
        assert not restarts.given_up
    assert restarts.after(lived=0.1, code=1).given_up


def test_a_steady_life_clears_the_count() -> None:
    restarts = Restarts(deaths=GIVE_UP_AFTER - 1).after(lived=STEADY_SECONDS, code=1)
    assert restarts == Restarts(deaths=1, steady=True, ends=1)


def test_ends_in_close_succession_have_growing_pauses_although_each_life_was_steady() -> None:
    restarts, delays = Restarts(), []
    for _ in range(8):
        restarts = restarts.after(lived=STEADY_SECONDS + 1, code=1)
        delays.append(restarts.delay)
        assert not restarts.given_up
    assert delays[:3] == [0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY
    assert restarts.repeated
    calm = restarts.after(lived=CALM_SECONDS, code=1)
    assert (calm.delay, calm.repeated) == (0.5, False)


@pytest.mark.parametrize("lived", [0.1, STEADY_SECONDS, CALM_SECONDS])
@pytest.mark.parametrize("before", [Restarts(), Restarts(deaths=1, steady=True, ends=1)])
def test_a_child_without_agents_whose_settings_cannot_work_is_given_up_whenever_it_reports_that(
    before: Restarts, lived: float
) -> None:
    assert before.after(lived, CANNOT_WORK, own_code=True).given_up
    assert not before.after(lived, 3, own_code=True).given_up


def test_settings_that_cannot_work_are_given_up_at_once() -> None:
    assert Restarts().after(lived=0.1, code=CANNOT_WORK).given_up
    assert not Restarts().after(lived=STEADY_SECONDS, code=CANNOT_WORK).given_up


def test_a_child_that_was_steady_once_is_never_given_up_for_any_end() -> None:
    restarts = Restarts().after(lived=STEADY_SECONDS, code=3)
    for code in (CANNOT_WORK, 3, -9, 71) * GIVE_UP_AFTER:
        restarts = restarts.after(lived=0.1, code=code)
        assert not restarts.given_up
    assert restarts.delay == LONGEST_DELAY
