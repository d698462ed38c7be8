"""How long a schedule goes on: an end date, a number of fires, a pause after failures in a row."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_common.schedules.rules.schedule_error import ScheduleError
from runyard_common.schedules.rules.timezones import LAST_INSTANT


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
    """The count of failures in a row after one more run completed or failed (a stopped one says nothing)."""
    return 0 if succeeded else before + 1
