"""What a storm may count on, and what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rules:
    """What a storm may count on. Times are seconds."""

    lease: float = 10.0
    limits: Mapping[str, int] = field(default_factory=dict)  # agent name -> most runs at once
    most_charges: int = 1  # retries charged to an innocent beside those for blows of the storm
    most_attempts: int = 40
    most_idle_releases: int = 5  # times in a row that a run is handed back without progress
    orderly: bool = False  # no process was killed, and nothing else: every hand-over is an orderly one
    lost_claims: bool = (
        False  # the database forgot what it had committed: a first life may begin one more step
    )
    wall_clock: bool = True  # the database's clock was not stepped
    deadly: bool = False  # there is poison that ends processes


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken promise."""

    kind: str
    text: str


@dataclass
class Verdict:
    """The findings, and what happened besides."""

    tasks: int = 0
    findings: list[Finding] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings

    @property
    def kinds(self) -> Counter[str]:
        """How many findings of each kind."""
        return Counter(finding.kind for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"runs accepted {self.tasks}; ended {_counts(self.statuses)}; failed {_counts(self.errors)}"]
        lines.append(f"blows: {_counts(self.blows)}")
        lines.append(f"seen: {_counts(self.counts)}")
        lines += [f"{name}: {_spread(seen)}" for name, seen in sorted(self.times.items())]
        lines.append("broken: " + (_counts(self.kinds) if self.findings else "nothing"))
        shown: Counter[str] = Counter()
        for finding in self.findings:
            shown[finding.kind] += 1
            if shown[finding.kind] <= 4:
                lines.append(f"  {finding.kind}: {finding.text}")
        return "\n".join(lines)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _spread(times: list[float]) -> str:
    if not times:
        return "none"
    ordered = sorted(times)
    return f"p50 {ordered[len(ordered) // 2]:.1f} s, max {ordered[-1]:.1f} s ({len(ordered)})"
