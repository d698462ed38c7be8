"""One party's costly work and the rest it takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runyard_common.costly import LONGEST, REST, Pace


def test_a_party_rests_twice_as_long_as_it_has_worked() -> None:
    pace = Pace()
    pace.worked("a", 0.5, now=10.0)
    assert pace.wait("a", 10.0) == 0.5 * REST
    assert abs(pace.wait("a", 10.6) - 0.4) < 1e-9
    assert pace.wait("a", 11.0) == 0.0


def test_no_other_rests_for_it() -> None:
    pace = Pace()
    pace.worked("a", 5.0, now=0.0)
    assert pace.wait("b", 0.0) == 0.0


def test_light_work_needs_no_rest_and_no_work_locks_its_party_out() -> None:
    pace = Pace()
    pace.worked("a", 0.001, now=0.0)
    assert pace.wait("a", 0.0) == 0.0
    pace.worked("a", 10_000.0, now=0.0)
    assert pace.wait("a", 0.0) == LONGEST


@given(st.lists(st.floats(0.003, 2.0), min_size=1, max_size=40))
def test_a_party_that_comes_back_at_once_leaves_two_thirds_of_the_time_to_others(works: list[float]) -> None:
    pace, now = Pace(), 0.0
    for seconds in works:
        now += pace.wait("a", now) + seconds
        pace.worked("a", seconds, now)
    now += pace.wait("a", now)
    assert sum(works) <= now / (1 + REST) + 1e-6


def test_parties_that_have_rested_are_forgotten() -> None:
    pace = Pace()
    for n in range(5_000):
        pace.worked(f"party {n}", 0.01, now=float(n))
    assert len(pace._free_at) < 1_100
