"""Jitter: schedules due at the same minute are released a little apart, each by its own steady amount."""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b

from runyard_common.schedules.rules.schedule_error import ScheduleError

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
