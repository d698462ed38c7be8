"""What traces cost a run: off, with a local collector, and with one run of a hundred sampled, in turn.

python -m tests.benchmarks.bench_traces [--runs 400] [--rounds 5]

Each round is a process of its own in each mode: a worker on SQLite, whose runs have two steps and are all submitted at
once. Its processor time has the exporter's, not the collector's, which is in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from runyard import Context
from runyard_common import tracing
from tests.collector import Collector
from tests.installation import Installation
from tests.stack import PYTHONPATH, ROOT

SAMPLED: Final = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
MODES: Final = ("off", "on", "1 %")


async def two_steps(ctx: Context, args: dict[str, Any]) -> int:
    """An agent that costs nothing by itself."""
    return int(await ctx.step("one", lambda: 1)) + int(await ctx.step("two", lambda: 2))


async def _runs(home: Path, count: int) -> dict[str, float]:
    """Seconds, of wall and of the processor, and looks for a recorder, of so many runs."""
    looks = 0
    active = tracing.active

    def counted() -> Any:
        nonlocal looks
        looks += 1
        return active()

    async with Installation(f"sqlite:///{home / 'bench.db'}") as site:
        name = site.publish(two_steps)
        await site.engine()
        await _all(site, name, 20)
        cpu, wall = time.process_time(), time.perf_counter()
        await _all(site, name, count)
        figures = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        tracing.active = counted
        await _all(site, name, 20)
        tracing.active = active
    return figures | {"looks": looks / 20}


async def _all(site: Installation, name: str, count: int) -> None:
    ids = await asyncio.gather(*(site.submit(name) for _ in range(count)))
    for task_id in ids:
        await site.ended(task_id)


def child(count: int) -> None:
    """One round in one mode, which the environment has."""
    tracing.start("runyard-bench")
    with tempfile.TemporaryDirectory() as home:
        figures = asyncio.run(_runs(Path(home), count))
    if tracing.active() is None:
        began = time.perf_counter()
        for _ in range(100_000):
            tracing.active()
        figures["look"] = (time.perf_counter() - began) / 100_000
    tracing.stop()
    print(json.dumps(figures))


def measured(count: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """The figures of each mode, a round after another."""
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    command = [sys.executable, "-m", "tests.benchmarks.bench_traces", "--child", "--runs", str(count)]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with Collector() as collector:
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        more = {"off": {}, "on": on, "1 %": on | SAMPLED}
        for _ in range(rounds):
            for mode in MODES:
                env = plain | more[mode] | {"PYTHONPATH": PYTHONPATH}
                done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
                found[mode].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def summary(found: dict[str, list[dict[str, float]]], count: int) -> list[str]:
    """The figures as ratios to `off`."""

    def median(mode: str, what: str) -> float:
        return statistics.median(one[what] for one in found[mode])

    lines = [
        f"{mode}: {median(mode, 'cpu') / median('off', 'cpu'):.2f} × the processor time of a run without traces, "
        f"{median('off', 'wall') / median(mode, 'wall'):.2f} × its runs/s"
        for mode in MODES[1:]
    ]
    looks, look = median("off", "looks"), median("off", "look")
    share = looks * look * count / median("off", "cpu")
    return [*lines, f"off: {looks:.0f} looks a run for a recorder that is not there, {share:.4%} of its time"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.runs)
        return
    for line in summary(measured(given.runs, given.rounds), given.runs):
        print(line)


if __name__ == "__main__":
    main()
