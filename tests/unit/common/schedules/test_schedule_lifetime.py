"""The bounds of a schedule: its end, its number of fires, its pause after failures."""

from __future__ import annotations

import pytest

from runyard_common.schedules.rules.policies import FOR_EVER, Lifetime, failures_in_a_row
from runyard_common.values.errors import ScheduleError


def test_a_schedule_without_bounds_goes_on() -> None:
    assert FOR_EVER.allows(1e12)
    assert FOR_EVER.remaining(1_000_000) is None
    assert not FOR_EVER.pauses(1_000_000)


def test_the_end_itself_is_still_inside() -> None:
    assert Lifetime(end_at=10.0).allows(10.0)
    assert not Lifetime(end_at=10.0).allows(10.001)


def test_fires_are_counted_down_to_none() -> None:
    assert [Lifetime(max_fires=2).remaining(fired) for fired in (0, 1, 2, 3)] == [2, 1, 0, 0]


def test_a_schedule_pauses_at_its_number_of_failures_in_a_row() -> None:
    lifetime, failures, paused = Lifetime(pause_after_failures=2), 0, []
    for succeeded in (False, True, False, False):
        failures = failures_in_a_row(failures, succeeded=succeeded)
        paused.append(lifetime.pauses(failures))
    assert paused == [False, False, False, True]


@pytest.mark.parametrize(
    ("bounds", "code", "field"),
    [
        ({"end_at": float("nan")}, "bad_end", "end_at"),
        ({"end_at": float("inf")}, "bad_end", "end_at"),
        ({"max_fires": 0}, "bad_count", "max_fires"),
        ({"pause_after_failures": -1}, "bad_count", "pause_after_failures"),
    ],
)
def test_senseless_bounds_are_refused(bounds: dict[str, float], code: str, field: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Lifetime(**bounds)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.field) == (code, field)
