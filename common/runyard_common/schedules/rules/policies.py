"""Policies of a schedule: overlap with a run that has not ended, jitter, and how long it goes on. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from runyard_common.schedules.rules.timezones import LAST_INSTANT
from runyard_common.values.errors import ScheduleError

#: Fires that may wait behind a running one: a schedule that is always too slow must not pile up for ever.
MAX_QUEUED = 10


class Overlap(StrEnum):
    """A schedule's overlap policy."""

    SKIP = "skip"  # leave this fire out and record it as skipped
    QUEUE = "queue"  # start it when the earlier ones have ended, in order
    ALLOW = "allow"  # start it while the other runs
    STOP_RUNNING = "stop_running"  # stop the running one and start this


class OverlapDecision(StrEnum):
    """What to do with one fire."""

    START = "start"
    SKIP = "skip"
    QUEUE = "queue"
    STOP_AND_START = "stop_and_start"


def decide_overlap(
    policy: Overlap, *, active: int, queued: int = 0, max_queued: int = MAX_QUEUED
) -> OverlapDecision:
    """What a fire does while `active` runs of its schedule have not ended and `queued` fires wait."""
    if policy is Overlap.ALLOW or (active == 0 and queued == 0):
        return OverlapDecision.START
    match policy:
        case Overlap.QUEUE:
            return OverlapDecision.QUEUE if queued < max_queued else OverlapDecision.SKIP
        case Overlap.STOP_RUNNING:
            return OverlapDecision.STOP_AND_START
        case _:
            return OverlapDecision.SKIP


MAX_JITTER_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Jitter:
    """Up to `spread_s` seconds of delay, fixed for each pair of schedule and due time.

    Every scheduler, before and after a restart, works out the same delay. The due time itself does not move.
    Raises `ScheduleError` ``bad_jitter`` for a spread outside 0 to an hour.
    """

    schedule_id: str
    spread_s: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.spread_s) and 0 <= self.spread_s <= MAX_JITTER_S):
            message = f"Jitter is a number of seconds from 0 to {MAX_JITTER_S:.0f}."
            raise ScheduleError(message, code="bad_jitter", field="jitter")

    def release_at(self, due: float) -> float:
        """When the run due at `due` is released: at least `due`, less than `due + spread_s`."""
        if not self.spread_s:
            return due
        digest = blake2b(f"{self.schedule_id}:{float(due)!r}".encode(), digest_size=6).digest()
        return due + self.spread_s * (int.from_bytes(digest, "big") / 2**48)


NO_JITTER = Jitter("")


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The bounds of a schedule. Raises `ScheduleError` ``bad_end`` or ``bad_count``."""

    end_at: float | None = None  # epoch seconds; a due time at this very instant still fires
    max_fires: int | None = None
    pause_after_failures: int | None = None

    def __post_init__(self) -> None:
        if self.end_at is not None and not 0 <= self.end_at <= LAST_INSTANT:
            raise ScheduleError("The end is not a moment in time.", code="bad_end", field="end_at")
        for name in ("max_fires", "pause_after_failures"):
            count = getattr(self, name)
            if count is not None and count < 1:
                message = f"{name} is a whole number from 1, or left out for no bound."
                raise ScheduleError(message, code="bad_count", field=name)

    def allows(self, due: float) -> bool:
        """Whether `due` is not past the end."""
        return self.end_at is None or due <= self.end_at

    def remaining(self, fired: int) -> int | None:
        """How many more times a schedule that has fired `fired` times may fire; `None` is without bound."""
        return None if self.max_fires is None else max(0, self.max_fires - fired)

    def pauses(self, failures: int) -> bool:
        """Whether a schedule pauses after `failures` failed runs in a row."""
        return self.pause_after_failures is not None and failures >= self.pause_after_failures


FOR_EVER = Lifetime()


def failures_in_a_row(before: int, *, succeeded: bool) -> int:
    """The count of failures in a row after one more run completed or failed (a stopped one does not count)."""
    return 0 if succeeded else before + 1
