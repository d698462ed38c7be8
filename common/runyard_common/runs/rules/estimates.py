"""When a queued task may start: guesses from start rates, and from how long runs take. Pure; times are seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def by_rate(
    position: int, count: int, window: float, starts: int, age_of: Callable[[int], float]
) -> float | None:
    """Until a rate of `count` starts a window allows the task at this place (1 = next); None where it allows none.

    `starts` are in the window now, the one at an index, oldest first, as long ago as `age_of` gives.
    """
    if count < 1:
        return None
    rounds, place = divmod(position - 1, count)
    index = starts - count + place  # the start that makes room by leaving the window
    first = max(0.0, window - age_of(index)) if index >= 0 else 0.0
    return first + rounds * window


def by_runs(position: int, running: Sequence[float], ahead: float, own: float) -> float:
    """Until as many runs have ended as the task at this place (1 = next) needs.

    `running` are the ages of those that hold the limit, which take `ahead` on average, as those that wait take `own`.
    """
    left = sorted(max(0.0, ahead - age) for age in running) or [0.0]
    rounds, place = divmod(position - 1, len(left))
    return left[place] + rounds * own
