"""Fair queuing between lanes: start-time fair queuing over virtual time. Pure.

Each lane carries the virtual time its served work has used, divided by its weight. The lane with the least
is served next. A lane that was idle starts at the system's virtual time, so idleness earns no credit.

Where more lanes have work than one look reads, they form a ring that is gone around lane by lane: a round serves
each up to the same virtual time. A claim then costs what it takes, however many lanes wait.

The lanes that a limit keeps queued form a ring of their own, without clocks: in each round each gets its weight in
starts (`starts_in`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ROUNDING = 1e-9
_LEAST = 1e-6  # weight
_LEAST_IN_RING = 0.01  # weight: more rounds without a start would make a look long


@dataclass(frozen=True, slots=True)
class LaneClock:
    """A lane's weight and the virtual time it has used."""

    weight: float = 1.0
    vtime: float = 0.0

    def after(self, served: int, system: float) -> LaneClock:
        """The clock once so many more are served."""
        used = max(self.vtime, system) + served / max(self.weight, _LEAST) if served else self.vtime
        return LaneClock(self.weight, used)


@dataclass(frozen=True, slots=True)
class Place:
    """How far the lanes were served: in the round that begins at `system`, the ring up to the lane `passed`."""

    system: float = 0.0
    passed: str = ""

    def at(self, lane: str) -> Place:
        """The place once this lane, the next of the ring, has had its turn."""
        return Place(self.system if lane > self.passed else self.system + 1.0, lane)


def turns_of(ring: Mapping[str, LaneClock], place: Place, n: int) -> tuple[dict[str, int], Place]:
    """How many of the next `n` starts each of these lanes gets, in the order of the ring; and the place behind the
    last one that gets all that its round owes it."""
    turns: dict[str, int] = {}
    for lane, clock in ring.items():
        reached = place.at(lane)
        owed = _owed(clock, reached.system)
        if given := min(owed, n):
            turns[lane] = given
            n -= given
        if given < owed:
            break
        place = reached
    return turns, place


def _owed(clock: LaneClock, system: float) -> int:
    """A round that begins at `system` serves a lane until it has used one unit of virtual time."""
    return max(0, math.ceil((system + 1.0 - max(clock.vtime, system)) * clock.weight - _ROUNDING))


def order(lanes: Sequence[str], clocks: Mapping[str, LaneClock], system: float, n: int) -> list[str]:
    """The lanes of the next `n` starts, in order, as if each lane had work without end."""
    starts = {lane: max(clocks.get(lane, LaneClock()).vtime, system) for lane in lanes}
    turns: list[str] = []
    while starts and len(turns) < n:
        lane = min(starts, key=lambda name: (starts[name], name))
        turns.append(lane)
        starts[lane] += 1 / max(clocks.get(lane, LaneClock()).weight, _LEAST)
    return turns


def system_time(
    served: Mapping[str, int], clocks: Mapping[str, LaneClock], system: float, backlogged: Sequence[str]
) -> float:
    """The system's virtual time after `served`: the least start among the lanes that still have work.

    It never overtakes a lane that waits, and never runs backward.
    """

    def start(lane: str) -> float:
        clock = clocks.get(lane, LaneClock())
        return max(clock.vtime, system) + served.get(lane, 0) / max(clock.weight, _LEAST)

    return max(system, min((start(lane) for lane in (backlogged or served)), default=system))


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """How far the lanes that a limit keeps queued were served: in this round, up to so many starts of this lane."""

    round: int = 0
    lane: str = ""
    given: int = 0


def starts_in(round_: int, lane: str, weight: float) -> int:
    """How many starts a lane gets in a round: its weight, on average.

    Lanes of small weights have their starts in different rounds, so that each round has about as many.
    """
    share = max(weight, _LEAST_IN_RING)
    phase = zlib.crc32(lane.encode()) / 2**32 if share % 1 else 0.0
    return math.floor((round_ + 1) * share + phase) - math.floor(round_ * share + phase)
