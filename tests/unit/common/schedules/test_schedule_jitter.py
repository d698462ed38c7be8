"""Jitter: steady for a schedule and due time, spread over schedules."""

from __future__ import annotations

import pytest

from runyard_common.schedules.rules.policies import NO_JITTER, Jitter
from runyard_common.values.errors import ScheduleError


def test_without_jitter_a_due_time_is_its_release() -> None:
    assert NO_JITTER.release_at(1_800_000_000.0) == 1_800_000_000.0


def test_the_delay_is_the_same_for_every_scheduler() -> None:
    assert Jitter("a", 60.0).release_at(1_800_000_000) == Jitter("a", 60.0).release_at(1_800_000_000.0)
    assert Jitter("a", 60.0).release_at(1_800_000_000.0) == pytest.approx(1_800_000_032.6639216, abs=1e-6)


def test_schedules_due_together_are_spread_evenly_over_the_whole_of_it() -> None:
    delays = [Jitter(f"schedule-{n}", 100.0).release_at(0.0) for n in range(10_000)]
    assert min(delays) >= 0.0
    assert max(delays) < 100.0
    tenths = [sum(10 * tenth <= delay < 10 * tenth + 10 for delay in delays) for tenth in range(10)]
    assert all(900 < count < 1_100 for count in tenths)


def test_one_schedule_gets_another_delay_each_time() -> None:
    jitter = Jitter("a", 100.0)
    assert len({jitter.release_at(3_600.0 * n) - 3_600.0 * n for n in range(100)}) == 100


@pytest.mark.parametrize("spread", [-1.0, 3_600.1, float("nan"), float("inf")])
def test_a_spread_outside_0_to_an_hour_is_refused(spread: float) -> None:
    with pytest.raises(ScheduleError) as caught:
        Jitter("a", spread)
    assert (caught.value.code, caught.value.field) == ("bad_jitter", "jitter")
