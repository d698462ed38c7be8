"""What the selftest found: a line for each promise it tried, with its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

#: Only `failed` is a broken promise; `warning` is what could not be tried, or took longer than it should.
Outcome = Literal["ok", "warning", "failed"]
Figure = int | float | None


@dataclass(frozen=True)
class Line:
    """One promise. The names of `figures` end in `_s` where they are seconds."""

    part: str
    outcome: Outcome
    text: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that a `share` (0 to 1) of the values do not exceed; None without values."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3) if ordered else None


def repeated(executed: Sequence[tuple[str, int]], task_ids: Sequence[str]) -> int:
    """How many steps of these runs were executed more than once."""
    own = [step for step in executed if step[0] in task_ids]
    return len(own) - len(set(own))


def judged(part: str, broken: Sequence[str], late: str, text: str, figures: Mapping[str, Figure]) -> Line:
    """A line: failed where a promise is `broken`, else a warning where something was `late`, else ok."""
    if broken:
        return Line(part, "failed", f"{'; '.join(broken)}. {text}", figures)
    if late:
        return Line(part, "warning", f"{late}. {text}", figures)
    return Line(part, "ok", text, figures)
