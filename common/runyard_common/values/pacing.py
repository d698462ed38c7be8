"""How often one party may put costly work on what everybody shares. Pure.

Work that holds the interpreter (large JSON, YAML, a schema over many values) delays everybody else for as long as it
runs. A party that has used some processor time rests for twice as long: however fast it sends, two thirds of the time
are the others' alone.
"""

from __future__ import annotations

from typing import Final

#: Seconds of rest for each second of work.
REST: Final = 2.0
#: Bytes to be stored that count as a second of work.
STORED: Final = 25_000_000
#: Work shorter than this, in seconds, needs no rest.
LIGHT: Final = 0.002
#: The longest rest, in seconds: one long piece of work must not lock its party out.
LONGEST: Final = 10.0


class Pace:
    """When each party may work again; times are seconds of a clock that never steps."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def wait(self, party: str, now: float) -> float:
        """How long this party has to rest yet, in seconds."""
        return max(0.0, self._free_at.get(party, 0.0) - now)

    def worked(self, party: str, seconds: float, now: float) -> None:
        """This party has used `seconds` of processor time just now."""
        if seconds < LIGHT:
            return
        if len(self._free_at) >= 1_000:
            self._free_at = {name: at for name, at in self._free_at.items() if at > now}
        free_at = max(now, self._free_at.get(party, now)) + seconds * REST
        self._free_at[party] = min(now + LONGEST, free_at)
