"""Sums of a span of time, and quantiles of durations from fixed buckets. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: What happened in a span: whole numbers by name. Those of `COLUMNS`, and those of distributions (`wait:12`).
Sums = Counter[str]
#: Runs by what became of them, then tokens and millionths of a USD of model turns.
RUNS: Final = ("submitted", "completed", "failed", "stopped")
TURNS: Final = ("turns", "input_tokens", "output_tokens", "cached_tokens", "cost_micros")
COLUMNS: Final = (*RUNS, *TURNS)
#: What is compared: whether a span has more of one of these than were summed.
COMPARED: Final = (*RUNS, "turns")
#: Distributions: seconds from submission to the first start, seconds from there to the end, and causes of failures.
WAIT: Final = "wait"
RUN: Final = "run"
FAILURE: Final = "failure"

MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400
#: Lengths of the spans that sums are kept for, in seconds, each a multiple of the one before; and for how long.
KEPT: Final[Mapping[int, float]] = {MINUTE: 2.0 * DAY, 600: 15.0 * DAY, HOUR: 100.0 * DAY, DAY: 800.0 * DAY}
STEPS: Final = tuple(KEPT)
#: Of how many things of one kind (agents, keys, end users) a minute keeps sums of their own, those with the most runs;
#: what the others did is summed as `OTHERS`.
MOST: Final = 500
OTHERS: Final = "*"

#: Buckets to a doubling: bucket `b` has the seconds above 2 ** (b / 4) up to 2 ** ((b + 1) / 4), as an exponential
#: histogram of OpenTelemetry of scale 2 has them.
_PER_DOUBLING: Final = 4
_SHORTEST: Final = 0.001
_LOWEST: Final = math.floor(math.log2(_SHORTEST) * _PER_DOUBLING)
_HIGHEST: Final = 100  # a year


def bucket(seconds: float) -> int:
    """The bucket of a duration. A millisecond and less are one, a year and more another."""
    if seconds <= _SHORTEST:
        return _LOWEST
    return min(_HIGHEST, math.ceil(math.log2(seconds) * _PER_DOUBLING) - 1)


def quantile(buckets: Mapping[int, int], q: float) -> float | None:
    """The duration in seconds that a share `q` of those counted do not exceed; None without any.

    It is the geometric middle of its bucket, so at most 9.1 % from a duration that was measured.
    """
    counted = sum(buckets.values())
    if not counted:
        return None
    rank, passed = max(1, math.ceil(q * counted)), 0
    for number in sorted(buckets):
        passed += buckets[number]
        if passed >= rank:
            break
    return float(2 ** ((number + 0.5) / _PER_DOUBLING))


def buckets_of(sums: Sums, distribution: str) -> dict[int, int]:
    """The counts of a distribution of durations by bucket."""
    return {int(name): count for name, count in parts(sums, distribution).items()}


def parts(sums: Sums, distribution: str) -> dict[str, int]:
    """The counts of a distribution by what follows its name."""
    prefix = f"{distribution}:"
    return {name.removeprefix(prefix): n for name, n in sums.items() if name.startswith(prefix) and n}


def failure(cause: Any, code: Any) -> str:
    """The name under which failures of a cause class and code are counted."""
    return f"{FAILURE}:{cause or 'agent'}/{str(code or 'error')[:80]}"


def added(all_of: Iterable[Sums]) -> Sums:
    """Their sum."""
    total: Sums = Counter()
    for sums in all_of:
        total.update(sums)
    return total


def difference(new: Sums, old: Sums) -> Sums:
    """What has to be added to `old` for `new`, without zeros; counts of it may be below 0."""
    names = new.keys() | old.keys()
    return Counter({name: new[name] - old[name] for name in names if new[name] != old[name]})


def base_step(step: int) -> int:
    """The longest span with kept sums that `step`, in seconds, is a multiple of."""
    return max(kept for kept in STEPS if step % kept == 0)
