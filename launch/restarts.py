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
    """The recent ends of one child.

    One that was steady before is never given up: its settings work, and what ends it then (an agent that ends its
    worker's process, with whatever exit code) is no reason to stop everything else.
    """

    deaths: int = 0
    steady: bool = False

    def after(self, lived: float, code: int) -> Restarts:
        """The count once the child ended with `code` after `lived` seconds."""
        if lived >= STEADY_SECONDS:
            return replace(self, deaths=1, steady=True)
        hopeless = code == CANNOT_WORK and not self.steady
        return replace(self, deaths=GIVE_UP_AFTER if hopeless else self.deaths + 1)

    @property
    def given_up(self) -> bool:
        """Whether starting it again is hopeless."""
        return self.deaths >= GIVE_UP_AFTER and not self.steady

    @property
    def delay(self) -> float:
        """Seconds until the next start."""
        return min(FIRST_DELAY * 2.0 ** max(self.deaths - 1, 0), LONGEST_DELAY)
