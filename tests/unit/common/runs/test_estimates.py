"""When a queued task may start."""

from __future__ import annotations

import pytest

from runyard_common.runs.rules import estimates

AGES = [50.0, 20.0, 10.0]  # of starts in a window of 60 s, oldest first


@pytest.mark.parametrize(
    ("position", "count", "expected"),
    [
        (1, 3, 10.0),  # the oldest start leaves the window
        (2, 3, 40.0),
        (4, 3, 70.0),  # the first of the next window
        (1, 2, 40.0),  # the rate was lowered: one leaving makes no room
        (1, 4, 0.0),
        (2, 4, 10.0),
        (1, 0, None),
    ],
)
def test_a_start_rate_lets_a_place_start_when_a_start_leaves_its_window(
    position: int, count: int, expected: float | None
) -> None:
    assert estimates.by_rate(position, count, 60.0, len(AGES), AGES.__getitem__) == expected


@pytest.mark.parametrize(
    ("position", "running", "expected"),
    [
        (1, [4.0], 6.0),  # the run ahead takes 10 s
        (2, [4.0], 7.0),  # and each that waits takes 1 s
        (1, [4.0, 9.0], 1.0),
        (2, [4.0, 9.0], 6.0),
        (3, [4.0, 9.0], 2.0),
        (1, [400.0], 0.0),
        (1, [], 0.0),
        (3, [], 2.0),
    ],
)
def test_a_place_starts_when_the_runs_before_it_have_ended(
    position: int, running: list[float], expected: float
) -> None:
    assert estimates.by_runs(position, running, ahead=10.0, own=1.0) == expected
