"""Runyard beside what else people run tasks with, each of them pinned and installed into a virtualenv of its own.

python -m tests.benchmarks.bench_peers [--smoke] [--runs 2000] [--rounds 3] [--only saq,celery] [--out FILE]

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from tests.benchmarks.figures import MEASURES, Broken, figures, table
from tests.benchmarks.plot import svg
from tests.benchmarks.subjects import SUBJECTS, Program, Subject, python, started
from tests.servers import Postgres, ValkeyServer, fresh_database
from tests.stack import ROOT

OUT = ROOT / ".benchmarks" / "peers.json"
#: What needs every server, in less than a minute.
SMOKE = ("runyard-postgres", "celery", "durable", "saq")


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    rounds: int = 3
    runs: int = 2000
    connections: int = 32
    samples: int = 50
    rate: float = 50.0
    accept_seconds: float = 10.0
    slots: int = 100
    #: Runs of one second at once, in a worker with as many slots.
    waits: int = 1000


@dataclass(frozen=True)
class Servers:
    """What the subjects share."""

    postgres: Postgres
    valkey: ValkeyServer


@contextmanager
def servers() -> Iterator[Servers]:
    """PostgreSQL as in production, and a Valkey."""
    found = Servers(Postgres(fsync="on", full_page_writes="on", shared_buffers="128MB"), ValkeyServer())
    try:
        found.postgres.start()
        found.valkey.start()
        yield found
    finally:
        found.postgres.stop()
        found.valkey.stop()


@contextmanager
def prepared(
    subject: Subject, shared: Servers, folder: Path, slots: int
) -> Iterator[tuple[Program, dict[str, Any]]]:
    """A subject that has done its first runs on empty servers, and the report of it."""
    with Redis.from_url(shared.valkey.url) as redis:
        redis.flushall()
    database = fresh_database(shared.postgres.url) if subject.database else ""
    with started(subject, folder / str(slots), database, shared.valkey.url, slots) as program:
        yield program, program.report("prepare")


def measure(subject: Subject, size: Size, shared: Servers, folder: Path) -> tuple[dict[str, float], Any]:
    """The figures of a subject in one round, and its versions."""
    with prepared(subject, shared, folder, size.slots) as (program, first):
        found = figures(
            program.report("throughput", runs=size.runs, connections=size.connections),
            program.report("latency", samples=size.samples),
            program.report("accept", rate=size.rate, duration=size.accept_seconds),
        )
    if size.waits:
        with prepared(subject, shared, folder, size.waits) as (program, _):
            waits = program.report("throughput", runs=size.waits, connections=size.connections, seconds=1)
            found["waits"] = waits["seconds"]
    return found, first["versions"]


def compare(subjects: list[Subject], size: Size) -> dict[str, Any]:
    """Measure all subjects in turn; those that broke are left out of the rounds and named."""
    for subject in subjects:
        python(subject.program)  # nothing is installed during a measurement
    rounds: dict[str, dict[str, list[float]]] = {}
    versions: dict[str, Any] = {}
    broken: dict[str, str] = {}
    loads = [os.getloadavg()[0]]
    with servers() as shared, tempfile.TemporaryDirectory(prefix="runyard-bench-") as name:
        for number in range(size.rounds):
            for subject in subjects:
                try:
                    found, versions[subject.name] = measure(
                        subject, size, shared, Path(name) / f"{subject.name}-{number}"
                    )
                except Broken as error:
                    broken[subject.name] = str(error)
                    continue
                loads.append(os.getloadavg()[0])
                shown = ", ".join(
                    f"{m.name} {found[m.name]:.{m.digits}f} {m.unit}" for m in MEASURES if m.name in found
                )
                print(f"round {number + 1}: {subject.label}: {shown}", file=sys.stderr)
                for key, value in found.items():
                    rounds.setdefault(subject.name, {}).setdefault(key, []).append(value)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "describe", "--always", "--dirty", "--exclude=*"),
        "machine": _machine(),
        "load": {"first": loads[0], "median": statistics.median(loads), "most": max(loads)},
        "size": asdict(size),
        "versions": versions,
        "rounds": {subject.name: rounds[subject.name] for subject in subjects if subject.name in rounds},
        "broken": broken,
    }


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


def main() -> int:
    """Measure, print the table, write JSON and SVG; 1 if a subject broke."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few runs: does everything work?")
    parser.add_argument("--only", help="names of subjects, with commas")
    parser.add_argument("--rounds", type=int, default=Size.rounds)
    parser.add_argument("--runs", type=int, default=Size.runs)
    parser.add_argument("--seconds", type=float, default=Size.accept_seconds, help="of the steady rate")
    parser.add_argument("--samples", type=int, default=Size.samples, help="of the latency at rest")
    parser.add_argument(
        "--waits", type=int, default=Size.waits, help="runs of one second at once; 0 for none"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="JSON; an SVG is written beside it")
    given = parser.parse_args()
    size = Size(
        rounds=given.rounds,
        runs=given.runs,
        samples=given.samples,
        accept_seconds=given.seconds,
        waits=given.waits,
    )
    if given.smoke:
        size = Size(rounds=1, runs=50, samples=3, accept_seconds=1, waits=0)
    wanted = given.only.split(",") if given.only else SMOKE if given.smoke else [s.name for s in SUBJECTS]
    found = compare([subject for subject in SUBJECTS if subject.name in wanted], size)
    labels = {subject.name: subject.label for subject in SUBJECTS}
    if found["rounds"]:
        print(table(found["rounds"], labels))
    if found["rounds"] and not given.smoke:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n")
        given.out.with_suffix(".svg").write_text(svg(found["rounds"], labels))
        print(f"{given.out} and {given.out.with_suffix('.svg').name}", file=sys.stderr)
    for name, why in found["broken"].items():
        print(f"{name} is broken: {why}", file=sys.stderr)
    return 1 if found["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
