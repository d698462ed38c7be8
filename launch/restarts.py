"""When a child that ended is started again, and when that is given up."""

from __future__ import annotations

from dataclasses import dataclass, replace

STEADY_SECONDS = 10.0  # a child that lived this long had started well; its end begins a new count
GIVE_UP_AFTER = 5  # deaths in a row
FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0
CANNOT_WORK = 2  # exit code of a process whose settings cannot work: it would only end again


@dataclass(frozen=True)
class Restarts:
    """The recent ends of one child."""

    deaths: int = 0

    def after(self, lived: float, code: int) -> Restarts:
        """The count once the child ended with `code` after `lived` seconds."""
        if code == CANNOT_WORK and lived < STEADY_SECONDS:
            return replace(self, deaths=GIVE_UP_AFTER)
        return replace(self, deaths=1 if lived >= STEADY_SECONDS else self.deaths + 1)

    @property
    def given_up(self) -> bool:
        """Whether starting it again is hopeless."""
        return self.deaths >= GIVE_UP_AFTER

    @property
    def delay(self) -> float:
        """Seconds until the next start."""
        return min(FIRST_DELAY * 2.0 ** max(self.deaths - 1, 0), LONGEST_DELAY)
