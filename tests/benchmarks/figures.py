"""From the reports of the subjects to figures, ratios and a table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The figures of each round, by subject and measure.
Rounds = Mapping[str, Mapping[str, Sequence[float]]]


class Broken(Exception):
    """A subject that does not do what it is measured at."""


@dataclass(frozen=True)
class Measure:
    """A figure of a subject."""

    name: str
    label: str
    unit: str
    digits: int = 1


MEASURES = (
    Measure("throughput", "no-op runs, end to end", "/s", 0),
    Measure("latency", "submit to the handler's first line at rest, p50", "ms"),
    Measure("accept_p50", "accept at 50/s, p50", "ms"),
    Measure("accept_p99", "accept at 50/s, p99", "ms"),
    Measure("waits", "1,000 runs that wait a second", "s"),
)


def parse(line: bytes) -> dict[str, Any]:
    """The report of a subject; one that lost runs, repeated some or failed is broken."""
    if not line:
        raise Broken("no report")
    try:
        report = json.loads(line)
    except ValueError:
        raise Broken(f"no report, but {line[:200]!r}") from None
    if "error" in report:
        raise Broken(report["error"])
    submitted, started, ended = (report.get(name) for name in ("submitted", "started", "ended"))
    if not submitted or started != submitted or ended != submitted:
        raise Broken(f"of {submitted} runs {started} started and {ended} ended")
    return dict(report)


def figures(throughput: dict[str, Any], latency: dict[str, Any], accept: dict[str, Any]) -> dict[str, float]:
    """The figures of one round, from its three reports."""
    return {
        "throughput": throughput["ended"] / throughput["seconds"],
        "latency": 1000 * statistics.median(latency["seconds"]),
        "accept_p50": 1000 * percentile(accept["seconds"], 0.5),
        "accept_p99": 1000 * percentile(accept["seconds"], 0.99),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratio(rounds: Rounds, ours: str, theirs: str, measure: str) -> float:
    """Our median to theirs."""
    return statistics.median(rounds[ours][measure]) / statistics.median(rounds[theirs][measure])


def measured(rounds: Rounds) -> list[Measure]:
    """The measures of which every subject has figures."""
    return [measure for measure in MEASURES if all(measure.name in found for found in rounds.values())]


def table(rounds: Rounds, labels: Mapping[str, str]) -> str:
    """Markdown: for each subject the first subject's ratio to it, its median, and its least and most."""
    first, measures = next(iter(rounds)), measured(rounds)
    lines = [
        "| " + " | ".join(["", *(f"{measure.label} ({measure.unit})" for measure in measures)]) + " |",
        "| --- " * (len(measures) + 1) + "|",
    ]
    for name, found in rounds.items():
        cells = [labels[name]]
        for measure in measures:
            values = found[measure.name]
            middle, low, high = (
                f"{value:.{measure.digits}f}"
                for value in (statistics.median(values), min(values), max(values))
            )
            times = "" if name == first else f"**{ratio(rounds, first, name, measure.name):.2f}** · "
            cells.append(f"{times}{middle} ({low}–{high})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
