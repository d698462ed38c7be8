"""What a replay finds: whether an agent's code still fits the recorded journal of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Named:
    """A call of a run's context: its journal key, its kind (step, tool, model, child, sleep, question, …), its name."""

    key: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} ({self.key})"


@dataclass(frozen=True)
class Difference:
    """Something that a call was given then and is given otherwise now. The recorded result is used all the same."""

    call: Named
    what: str  # arguments, effect, text, output …
    journal: Any
    code: Any

    def __str__(self) -> str:
        return f"{self.call}: {self.what} was {self.journal!r}, is {self.code!r}"


@dataclass(frozen=True)
class Misfit:
    """Where the code does not fit: what the journal has there, what the code asks for, and its line."""

    reason: str
    journal: Named | None
    code: Named | None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Replay:
    """What became of the code on the journal. `went`: ``completed``, ``failed``, or ``goes_on`` with `next`, the first
    call that the journal has no result for. `entries` of the journal were found again, of `of`."""

    fits: bool
    went: str
    agent: str
    version: str
    recorded_version: str
    entries: int
    of: int
    next: Named | None = None
    misfit: Misfit | None = None
    differences: tuple[Difference, ...] = ()
    output: Any = None

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        head = f"{self.agent} {self.version}, on the journal of a run of {self.recorded_version}:"
        if self.misfit is not None:
            lines = [f"{head} does not fit. {self.misfit.reason}"]
            lines += [f"  the journal has: {self.misfit.journal}"] if self.misfit.journal else []
            lines += [f"  the code asks for: {self.misfit.code}"] if self.misfit.code else []
            lines += [f"  at {self.misfit.file}, line {self.misfit.line}"] if self.misfit.file else []
        else:
            went = f"would go on with {self.next}" if self.next is not None else self.went
            but = f", with differences ({len(self.differences)})" if self.differences else ""
            lines = [f"{head} fits{but}; {went}."]
        lines.append(f"  {self.entries} of {self.of} journal entries were found again")
        return lines + [f"  changed: {one}" for one in self.differences]

    def check(self) -> Replay:
        """Itself, if it fits. Raises `AssertionError` with where it does not."""
        if not self.fits:
            raise AssertionError(str(self))
        return self

    def to_json(self) -> Mapping[str, Any]:
        """As ``runyard replay --json`` writes it."""
        return asdict(self)


class NotReplayable(Exception):
    """A recording that cannot be tried: it is none, or its agent is not there, or is no code."""
