"""Runyard beside what else people run tasks with, each of them pinned and installed into a virtualenv of its own.

python -m tests.benchmarks.bench_peers [--smoke] [--rounds 3] [--only saq,celery] [--measures waits] [--out FILE]

Every subject is real processes with the same slots, on one PostgreSQL that flushes to disk and one Valkey. Subjects
take turns within a round, each with processes of its own. Ratios are Runyard's on PostgreSQL to the subject's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.environments import python
from tests.benchmarks.figures import Broken, goals, tables
from tests.benchmarks.measurement import Measurement, Servers, Size, servers
from tests.benchmarks.measures import MEASURES, STAGES
from tests.benchmarks.plot import svg
from tests.benchmarks.subjects import SUBJECTS, Subject
from tests.stack import ROOT

OUT = ROOT / ".benchmarks" / "peers.json"
#: What needs every server, in less than a minute.
SMOKE = ("runyard-postgres", "durable", "saq")
SMOKE_STAGES = ("memory", "throughput", "latency", "accept", "reads")
SMOKE_SIZE = Size(rounds=1, runs=50, samples=3, accept_seconds=1, reads=50, rest=0.1)
#: Counts repeat exactly: one round of them is enough.
ONCE = ("round_trips",)


class Comparison:
    """All subjects in turn, round after round; those that broke are named, with why."""

    def __init__(self, subjects: Sequence[Subject], stages: Collection[str], size: Size) -> None:
        self._subjects, self._stages, self._size = subjects, stages, size
        self._rounds: dict[str, dict[str, list[float]]] = {}
        self._versions: dict[str, Any] = {}
        self._broken: dict[str, str] = {}
        self._loads = [os.getloadavg()[0]]

    def run(self) -> dict[str, Any]:
        """Measure; the whole of the report."""
        for subject in self._subjects:
            python(subject.environment)  # nothing is installed during a measurement
        began = time.monotonic()
        with servers() as shared, tempfile.TemporaryDirectory(prefix="runyard-bench-") as name:
            for number in range(self._size.rounds):
                for subject in self._subjects:
                    self._measure(subject, number, shared, Path(name) / f"{subject.name}-{number}")
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began),
            "commit": _output("git", "describe", "--always", "--dirty", "--exclude=*"),
            "machine": _machine(),
            "load": {
                "first": self._loads[0],
                "median": statistics.median(self._loads),
                "most": max(self._loads),
            },
            "size": asdict(self._size),
            "subjects": {subject.name: asdict(subject) for subject in self._subjects},
            "versions": self._versions,
            "rounds": {s.name: self._rounds[s.name] for s in self._subjects if s.name in self._rounds},
            "broken": self._broken,
        }

    def _measure(self, subject: Subject, number: int, shared: Servers, folder: Path) -> None:
        stages = [stage for stage in self._stages if number == 0 or stage not in ONCE]
        measurement = Measurement(subject, self._size, shared, folder)
        try:
            found = measurement.measure(stages)
        except Broken as error:
            self._broken[subject.name] = str(error)
            return
        self._loads.append(os.getloadavg()[0])
        self._versions[subject.name] = measurement.versions
        print(f"round {number + 1}: {subject.label}: {_shown(found)}", file=sys.stderr)
        for key, value in found.items():
            self._rounds.setdefault(subject.name, {}).setdefault(key, []).append(value)


def _shown(found: Mapping[str, float]) -> str:
    shown = [f"{m.name} {found[m.name]:.{m.digits}f} {m.unit}" for m in MEASURES if m.name in found]
    return ", ".join(shown)


def _machine() -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as file:
        spans = []
        for _ in range(20):
            file.write(b"\0" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            spans.append(time.perf_counter() - began)
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "fsync_ms": round(1000 * statistics.median(spans), 2),
    }


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()


def _names(known: Sequence[str], given: str) -> list[str]:
    """Those that are given, with commas, in the order that is known."""
    wanted = given.split(",")
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no such name: {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in wanted]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few runs: does everything work?")
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--only", help=f"subjects, with commas: {', '.join(names)}")
    parser.add_argument("--measures", help=f"stages, with commas: {', '.join(STAGES)}")
    size = Size()
    parser.add_argument("--rounds", type=int, default=size.rounds)
    parser.add_argument("--runs", type=int, default=size.runs)
    parser.add_argument("--seconds", type=float, default=size.accept_seconds, help="of the steady rate")
    parser.add_argument("--samples", type=int, default=size.samples, help="of the latency at rest")
    parser.add_argument("--waits", type=int, default=size.waits, help="runs of one second at once")
    parser.add_argument(
        "--show", type=Path, nargs="+", help="print what was written earlier; measure nothing"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="JSON; an SVG is written beside it")
    return parser


def _compare(given: argparse.Namespace) -> dict[str, Any]:
    """Measure what is asked for; the whole of the report."""
    size = Size(
        rounds=given.rounds,
        runs=given.runs,
        samples=given.samples,
        accept_seconds=given.seconds,
        waits=given.waits,
    )
    known = [subject.name for subject in SUBJECTS]
    names = _names(known, given.only or ",".join(SMOKE if given.smoke else known))
    stages = _names(STAGES, given.measures or ",".join(SMOKE_STAGES if given.smoke else STAGES))
    subjects = [subject for subject in SUBJECTS if subject.name in names]
    return Comparison(subjects, stages, SMOKE_SIZE if given.smoke else size).run()


def _earlier(files: Sequence[Path]) -> dict[str, dict[str, list[float]]]:
    """The figures of earlier reports; where several have one, the last counts."""
    reports = [json.loads(file.read_text())["rounds"] for file in files]
    names = [subject.name for subject in SUBJECTS]
    merged = {name: {k: v for report in reports for k, v in report.get(name, {}).items()} for name in names}
    return {name: found for name, found in merged.items() if found}


def main() -> int:
    """Measure, print the tables, write JSON and SVG; 1 if a subject broke."""
    given = _parser().parse_args()
    labels = {subject.name: subject.label for subject in SUBJECTS}
    found = {"rounds": _earlier(given.show), "broken": {}} if given.show else _compare(given)
    rounds = found["rounds"]
    if rounds:
        print(tables(rounds, labels))
    if rounds and not given.smoke:
        print(f"\n{goals(rounds)}")
        given.out.parent.mkdir(parents=True, exist_ok=True)
        if not given.show:
            given.out.write_text(json.dumps(found, indent=1) + "\n")
        given.out.with_suffix(".svg").write_text(svg(rounds, labels))
        print(f"{given.out} and {given.out.with_suffix('.svg').name}", file=sys.stderr)
    for name, why in found["broken"].items():
        print(f"{name} is broken: {why}", file=sys.stderr)
    return 1 if found["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
