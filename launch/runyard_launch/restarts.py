"""When a child that ended is started again, and when that is given up."""

from __future__ import annotations

from dataclasses import dataclass, replace

STEADY_SECONDS = 10.0  # a child that lived this long had started well; it is not given up any more
CALM_SECONDS = 60.0  # an end after so long a life has nothing to do with the one before
GIVE_UP_AFTER = 5  # deaths in a row, each before the child was steady
FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0
CANNOT_WORK = 2  # exit code of a process whose settings cannot work: it would only end again


@dataclass(frozen=True)
class Restarts:
    """The recent ends of one child: `deaths` that count towards giving it up, and `ends` in close succession.

    One that was steady before is never given up: its settings work, and what ends it then (an agent that ends its
    worker's process, with whatever exit code) is no reason to stop everything else.
    """

    deaths: int = 0
    steady: bool = False
    ends: int = 0

    def after(self, lived: float, code: int, *, own_code: bool = False) -> Restarts:
        """The count once the child ended with `code` after `lived` seconds.

        `own_code`: nothing but Runyard's code runs in the child, so that its exit code is its own statement,
        however long it lived.
        """
        ends = 1 if lived >= CALM_SECONDS else self.ends + 1
        if own_code and code == CANNOT_WORK:
            return Restarts(GIVE_UP_AFTER, steady=False, ends=ends)
        if lived >= STEADY_SECONDS:
            return Restarts(deaths=1, steady=True, ends=ends)
        hopeless = code == CANNOT_WORK and not self.steady
        return replace(self, deaths=GIVE_UP_AFTER if hopeless else self.deaths + 1, ends=ends)

    @property
    def given_up(self) -> bool:
        """Whether starting it again is hopeless."""
        return self.deaths >= GIVE_UP_AFTER and not self.steady

    @property
    def repeated(self) -> bool:
        """Whether this end followed closely on another one."""
        return self.ends > 1

    @property
    def delay(self) -> float:
        """Seconds until the next start."""
        return min(FIRST_DELAY * 2.0 ** max(self.ends - 1, 0), LONGEST_DELAY)
