"""How long sign-ins pause after failures. Pure.

Only failures count. Four subjects are counted, each by a rule of its own:

network            the caller's network, for every address it tries: first, so that a refused one uses up nothing else
e-mail, network    one person from one network: strictly
e-mail             one person from everywhere: loosely, against guessing from many networks
device             a browser that this person has signed in with before; it is asked for nothing else
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class PauseRule:
    """Failures that are free, how long they are counted from the first one, and the pause. Times are seconds."""

    free: int
    window_s: float
    shortest_s: float
    longest_s: float

    def pause_s(self, failures: int) -> float:
        """The pause after this many failures: none for the free ones, then twice as long after each."""
        if failures < self.free:
            return 0.0
        return min(self.longest_s, self.shortest_s * 2.0 ** min(failures - self.free, 32))


NETWORK: Final = PauseRule(30, 600, 30, 600)
EMAIL_AND_NETWORK: Final = PauseRule(10, 86_400, 30, 900)
EMAIL: Final = PauseRule(100, 3600, 10, 300)
DEVICE: Final = PauseRule(10, 86_400, 30, 900)
