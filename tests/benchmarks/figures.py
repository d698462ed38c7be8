"""From the reports of the subjects to figures, ratios and tables."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.benchmarks.measures import GOALS, TABLES, Goal, Measure, Table

#: The figures of each round, by subject and measure.
Rounds = Mapping[str, Mapping[str, Sequence[float]]]
Report = Mapping[str, Any]


class Broken(Exception):
    """A subject that does not do what it is measured at."""


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


def figures(reports: Mapping[str, Report]) -> dict[str, float]:
    """The figures of one round, from the reports of its stages; those that could not be taken are missing."""
    found: dict[str, float] = {}
    for stage, report in reports.items():
        found |= _OF_STAGE[stage](report)
    if "peak_mib" in reports.get("waits", {}) and "resident_mib" in reports.get("memory", {}):
        added = reports["waits"]["peak_mib"] - reports["memory"]["resident_mib"]
        found["waits_memory"] = 1024 * added / reports["waits"]["ended"]
    return found


def _throughput(report: Report) -> dict[str, float]:
    found = {"throughput": report["ended"] / report["seconds"]}
    costs = {"cpu": "cpu_saturated", "servers_cpu": "servers_cpu", "client_cpu": "client_cpu"}
    return found | _each(report, costs, 1000 / report["ended"])


def _latency(report: Report) -> dict[str, float]:
    return {"latency": 1000 * statistics.median(report["seconds"])}


def _accept(report: Report) -> dict[str, float]:
    found = {f"accept_p{share}": 1000 * percentile(report["seconds"], share / 100) for share in (50, 99)}
    return found | _each(report, {"cpu": "cpu_steady"}, 1000 / report["ended"])


def _each(report: Report, names: Mapping[str, str], factor: float) -> dict[str, float]:
    return {name: factor * report[key] for key, name in names.items() if key in report}


_OF_STAGE: Mapping[str, Callable[[Report], dict[str, float]]] = {
    "throughput": _throughput,
    "latency": _latency,
    "accept": _accept,
    "waits": lambda report: {"waits": report["seconds"]},
    "memory": lambda report: _each(report, {"memory_mib": "memory"}, 1),
    "reads": lambda report: {"reads": report["ended"] / report["seconds"]},
    "two_workers": lambda report: {"two_workers": report["ended"] / report["seconds"]},
    "four_apis": lambda report: {"four_apis": report["ended"] / report["seconds"]},
    "both": lambda report: {"both": report["ended"] / report["seconds"]},
    "round_trips": lambda report: {"round_trips": report["trips"] / report["ended"]},
}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def ratio(rounds: Rounds, ours: str, theirs: str, measure: str) -> float:
    """Our median to theirs."""
    return statistics.median(rounds[ours][measure]) / statistics.median(rounds[theirs][measure])


def measured(rounds: Rounds, shown: Table) -> list[Measure]:
    """The measures of a table of which at least one subject has figures."""
    return [measure for measure in shown.measures if any(measure.name in found for found in rounds.values())]


def tables(rounds: Rounds, labels: Mapping[str, str]) -> str:
    """Markdown: for each subject the first subject's ratio to it, its median, and its least and most."""
    parts = []
    for shown in TABLES:
        measures = measured(rounds, shown)
        names = [name for name, found in rounds.items() if any(m.name in found for m in measures)]
        if not measures:
            continue
        lines = [
            f"**{shown.title}**",
            "",
            "| " + " | ".join(["", *(f"{measure.label} ({measure.unit})" for measure in measures)]) + " |",
            "| --- " * (len(measures) + 1) + "|",
            *(_line(rounds, labels[name], name, measures) for name in names),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(rounds: Rounds, label: str, name: str, measures: Sequence[Measure]) -> str:
    return "| " + " | ".join([label, *(_cell(rounds, name, measure) for measure in measures)]) + " |"


def _cell(rounds: Rounds, name: str, measure: Measure) -> str:
    values, first = rounds[name].get(measure.name), next(iter(rounds))
    if not values:
        return "–"
    middle, low, high = (
        f"{value:.{measure.digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    spread = f" ({low}–{high})" if len(values) > 1 else ""
    comparable = name != first and rounds[first].get(measure.name) and statistics.median(values)
    times = f"**{ratio(rounds, first, name, measure.name):.2f}** · " if comparable else ""
    return f"{times}{middle}{spread}"


def goals(rounds: Rounds) -> str:
    """Markdown: what the project aims at beside what was reached, as far as its subjects were measured."""
    lines = [f"| {goal.label} | {_reached(rounds, goal)} | {goal.goal} |" for goal in GOALS]
    known = [line for line in lines if "| – |" not in line]
    return "\n".join(["| aim | reached | goal |", "| --- | --- | --- |", *known]) if known else ""


def _reached(rounds: Rounds, goal: Goal) -> str:
    ours = _median(rounds, *goal.ours)
    others = [_median(rounds, name, measure) for name, measure in goal.others]
    known = [value for value in others if value]
    if ours is None or (goal.others and not known):
        return "–"
    if not known:
        return f"{ours:.1f}"
    return f"{ours / (max(known) if goal.most else min(known)):.2f}"


def _median(rounds: Rounds, name: str, measure: str) -> float | None:
    values = rounds.get(name, {}).get(measure)
    return statistics.median(values) if values else None
