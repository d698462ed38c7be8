"""What a fire does when a run of the same schedule has not ended yet."""

from __future__ import annotations

from enum import StrEnum

#: Fires that may wait behind a running one: a schedule that is always too slow must not pile up for ever.
MAX_HELD = 10


class Overlap(StrEnum):
    """A schedule's overlap policy."""

    SKIP = "skip"  # leave this fire out and record it as skipped
    QUEUE = "queue"  # start it when the earlier ones have ended, in order
    ALLOW = "allow"  # start it beside the running one
    STOP_RUNNING = "stop_running"  # stop the running one and start this


class OverlapDecision(StrEnum):
    """What to do with one fire."""

    START = "start"
    SKIP = "skip"
    HOLD = "hold"
    STOP_AND_START = "stop_and_start"


def decide_overlap(
    policy: Overlap, *, active: int, held: int = 0, max_held: int = MAX_HELD
) -> OverlapDecision:
    """What a fire does while `active` runs of its schedule have not ended and `held` fires wait."""
    if policy is Overlap.ALLOW or (active == 0 and held == 0):
        return OverlapDecision.START
    match policy:
        case Overlap.QUEUE:
            return OverlapDecision.HOLD if held < max_held else OverlapDecision.SKIP
        case Overlap.STOP_RUNNING:
            return OverlapDecision.STOP_AND_START
        case _:
            return OverlapDecision.SKIP
