"""Fair queuing between lanes: start-time fair queuing over virtual time. Pure.

Each lane carries the virtual time its served work has used, divided by its weight. The lane with the least
is served next. A lane that was idle starts at the system's virtual time, so idleness earns no credit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaneClock:
    """A lane's weight and the virtual time it has used."""

    weight: float = 1.0
    vtime: float = 0.0


def order(lanes: Sequence[str], clocks: Mapping[str, LaneClock], system: float, n: int) -> list[str]:
    """The lanes of the next `n` starts, in order, as if each lane had work without end."""
    starts = {lane: max(clocks.get(lane, LaneClock()).vtime, system) for lane in lanes}
    turns: list[str] = []
    while starts and len(turns) < n:
        lane = min(starts, key=lambda name: (starts[name], name))
        turns.append(lane)
        starts[lane] += 1 / max(clocks.get(lane, LaneClock()).weight, 1e-6)
    return turns


def system_time(
    served: Mapping[str, int], clocks: Mapping[str, LaneClock], system: float, backlogged: Sequence[str]
) -> float:
    """The system's virtual time after `served`: the least start among the lanes that still have work.

    It never overtakes a lane that waits, and never runs backward.
    """

    def start(lane: str) -> float:
        clock = clocks.get(lane, LaneClock())
        return max(clock.vtime, system) + served.get(lane, 0) / max(clock.weight, 1e-6)

    return max(system, min((start(lane) for lane in (backlogged or served)), default=system))
