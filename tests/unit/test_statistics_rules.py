"""Sums and quantiles of statistics."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_common.statistics import rules


@given(st.lists(st.floats(0.001, 3e7), min_size=1, max_size=80), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_within_a_tenth_of_a_duration_that_was_measured(
    durations: list[float], q: float
) -> None:
    measured = sorted(durations)[max(1, ceil(q * len(durations))) - 1]
    found = rules.quantile(Counter(map(rules.bucket, durations)), q)
    assert found == pytest.approx(measured, rel=0.0906)


def test_what_takes_no_time_and_what_takes_years_has_a_bucket() -> None:
    assert rules.bucket(-1.0) == rules.bucket(0.0) == rules.bucket(0.001)
    assert rules.bucket(1e9) == rules.bucket(1e12)
    assert rules.quantile({}, 0.5) is None


def test_the_difference_added_to_the_old_is_the_new() -> None:
    old, new = Counter({"failed": 3, "wait:1": 2}), Counter({"failed": 1, "turns": 4})
    assert +rules.added([old, rules.difference(new, old)]) == new


def test_each_kept_span_is_a_multiple_of_the_one_before() -> None:
    assert all(longer % shorter == 0 for shorter, longer in zip(rules.STEPS, rules.STEPS[1:], strict=False))
    assert [rules.base_step(step) for step in (60, 300, 1_800, 7_200, 604_800)] == [
        60,
        60,
        600,
        3_600,
        86_400,
    ]
