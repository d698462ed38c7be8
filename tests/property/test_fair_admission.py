"""Runs come and end in any order, and a limit of all organisations lets each through in its turn."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runyard_common.runs.rules.fairness import starts_in
from tests import databases
from tests.integration.test_queued_lanes import Queue

LANES = ("a", "b", "c", "d", "e")
_steps = st.lists(
    st.one_of(st.tuples(st.sampled_from(LANES), st.integers(1, 3)), st.integers(1, 3)),
    min_size=5,
    max_size=20,
)


@given(st.text(min_size=1, max_size=8), st.floats(0.01, 1000), st.integers(0, 10**9), st.integers(1, 500))
def test_over_any_rounds_a_lane_gets_its_weight(lane: str, weight: float, first: int, rounds: int) -> None:
    got = sum(starts_in(first + number, lane, weight) for number in range(rounds))
    assert abs(got - rounds * weight) <= 1.001
    assert {starts_in(first + n, lane, weight) for n in range(3)} <= {math.floor(weight), math.ceil(weight)}


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(_steps)
def test_who_waits_is_passed_by_each_other_once_a_round(steps: list[tuple[str, int] | int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        db = databases.opened(f"sqlite:///{Path(folder) / 'x.db'}")
        queue = Queue(db, slots=1)
        queue.add(list(LANES))
        waits = dict.fromkeys(LANES, 1)
        passed: dict[str, Counter[str]] = {lane: Counter() for lane in LANES}
        for step in [*steps, 1000]:
            if isinstance(step, tuple):
                lane, count = step
                queue.add([lane], count)
                waits[lane] += count
                continue
            for served in queue.served(min(step, sum(waits.values()))):
                waits[served] -= 1
                passed[served].clear()
                for lane in LANES:
                    if waits[lane] and lane != served:
                        passed[lane][served] += 1
                    elif not waits[lane]:
                        passed[lane].clear()
            assert all(most <= 2 for its in passed.values() for most in its.values()), passed
        assert not any(waits.values())
        db.close()
