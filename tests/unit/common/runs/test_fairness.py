"""Fair queuing: weights are shares, idleness earns no credit, no organisation starves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runyard_common.runs.rules.fairness import LaneClock, order, system_time


def test_two_equal_lanes_take_turns() -> None:
    assert Counter(order(["a", "b"], {}, 0.0, 10)) == {"a": 5, "b": 5}


def test_a_lane_of_three_times_the_weight_gets_three_times_the_starts() -> None:
    clocks = {"a": LaneClock(weight=3.0), "b": LaneClock(weight=1.0)}
    assert Counter(order(["a", "b"], clocks, 0.0, 400)) == {"a": 300, "b": 100}


def test_a_newcomer_is_served_next_however_much_the_other_has_used() -> None:
    clocks = {"flood": LaneClock(vtime=5000.0)}
    assert order(["flood", "newcomer"], clocks, 4999.0, 1) == ["newcomer"]


def test_a_lane_that_was_idle_earned_no_credit_meanwhile() -> None:
    clocks = {"busy": LaneClock(vtime=100.0), "idle": LaneClock(vtime=0.0)}
    assert Counter(order(["busy", "idle"], clocks, 100.0, 10)) == {"busy": 5, "idle": 5}


def test_the_systems_time_never_overtakes_a_lane_that_waits() -> None:
    clocks = {"a": LaneClock(vtime=10.0), "b": LaneClock(vtime=3.0)}
    assert system_time({"a": 5}, clocks, 2.0, ["a", "b"]) == 3.0


def test_the_systems_time_never_runs_backward() -> None:
    assert system_time({}, {}, 7.0, []) == 7.0


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0.1, 10), min_size=2), st.integers(200, 400))
def test_every_lane_gets_its_share_within_one_start(weights: dict[str, float], n: int) -> None:
    clocks = {lane: LaneClock(weight=weight) for lane, weight in weights.items()}
    served = Counter(order(list(weights), clocks, 0.0, n))
    for lane, weight in weights.items():
        share = n * weight / sum(weights.values())
        assert abs(served[lane] - share) <= 1 + weight / min(weights.values())
