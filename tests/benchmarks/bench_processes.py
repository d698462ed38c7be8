"""What an agent's own process costs against a thread and the worker's loop: the same runs, on one engine, in turns.

python -m tests.benchmarks.bench_processes [--runs 60] [--steps 20] [--rounds 5] [--smoke]

Ratios are of processor time (the worker's and its children's) and of wall time, medians of interleaved rounds; runs are
made one after the other, so that one warm process serves them. Then what starting a process costs, its memory at rest,
and how long it lives once its run is cancelled in an endless loop.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runyard.authoring import registered
from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import cancellations
from runyard_common.values.ids import uuid7
from runyard_workers.processes import limits
from runyard_workers.processes.pool import Owner
from runyard_workers.processes.process import AgentProcess
from tests.installation import Installation
from tests.waiting import until

KINDS = ("loop", "own_loop", "process_loop", "thread", "process")


@dataclass(frozen=True)
class Cost:
    """Of one run, in seconds."""

    cpu: float
    wall: float


def _cpu() -> float:
    """Processor time of this process and of those it has started."""
    return sum(limits.cpu_seconds(pid) for pid in limits.family(os.getpid()))


async def _cost(site: Installation, kind: str, runs: int, steps: int) -> Cost:
    cpu, wall = _cpu(), time.perf_counter()
    for _ in range(runs):
        task = await site.ended(await site.submit(f"@bench/{kind}", {"steps": steps}))
        assert task.status is Status.COMPLETED, task.error
    return Cost((_cpu() - cpu) / runs, (time.perf_counter() - wall) / runs)


def _median(costs: Sequence[Cost], of: str) -> float:
    return float(statistics.median(getattr(cost, of) for cost in costs))


async def _compare(site: Installation, runs: int, steps: int, rounds: int) -> None:
    costs: dict[str, list[Cost]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        await _cost(site, kind, 2, steps)  # warm
    for _ in range(rounds):
        for kind in KINDS:
            costs[kind].append(await _cost(site, kind, runs, steps))
    for kind, against in (("process", "thread"), ("process_loop", "loop"), ("own_loop", "loop")):
        ratios = {of: _median(costs[kind], of) / _median(costs[against], of) for of in ("cpu", "wall")}
        more = {of: _median(costs[kind], of) - _median(costs[against], of) for of in ("cpu", "wall")}
        print(
            f"{steps} steps, {kind} / {against}: cpu {ratios['cpu']:.2f}, wall {ratios['wall']:.2f} "
            f"(a run {1000 * more['cpu']:.1f} ms of cpu more, {1000 * more['wall']:.1f} ms of wall)"
        )


async def _starts(site: Installation, rounds: int) -> None:
    definition = registered()["@bench/process"]
    costs, sizes, own = [], [], []
    for _ in range(rounds):
        cpu, wall = _cpu(), time.perf_counter()
        process = await site.processes.acquire(Owner(uuid7(), definition.name), definition)
        costs.append(Cost(_cpu() - cpu, time.perf_counter() - wall))
        sizes.append(limits.resident(process.pid) / 2**20)
        own.append(limits.own_memory(process.pid) / 2**20)
        process.kill()
    print(
        f"a start: {1000 * _median(costs, 'cpu'):.0f} ms of cpu, {1000 * _median(costs, 'wall'):.0f} ms of wall; "
        f"at rest {statistics.median(sizes):.0f} MiB resident, {statistics.median(own):.0f} MiB of its own"
    )


async def _cancels(site: Installation, rounds: int) -> None:
    took = []
    for _ in range(rounds):
        task_id = await site.submit("@bench/endless")
        await until(partial(_is_under_way, site, task_id))
        (process,) = [one for one in site.processes._all if one.served == 0]
        began = time.perf_counter()
        site.transact(partial(_cancel, task_id))
        await until(partial(_is_dead, process))
        took.append(time.perf_counter() - began)
    print(f"an endless loop is gone {statistics.median(took):.2f} s after its cancellation")


def _cancel(task_id: str, tx: Tx) -> None:
    cancellations.cancel_tasks(tx, [task_id], "enough")


def _is_under_way(site: Installation, task_id: str) -> bool:
    return "progress" in site.events(task_id)


def _is_dead(process: AgentProcess) -> bool:
    return process.death is not None


async def _measure(folder: Path, runs: int, steps: int, rounds: int) -> None:
    importlib.import_module("tests.benchmarks.isolated_work")
    async with Installation(f"sqlite:///{folder / 'runyard.db'}", capacity=4) as site:
        for name in (*KINDS, "endless"):
            site.publish_definition(registered()[f"@bench/{name}"])
        await site.engine()
        await _compare(site, runs, 0, rounds)
        await _compare(site, runs, steps, rounds)
        await _starts(site, rounds)
        await _cancels(site, min(rounds, 3))


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    runs, steps, rounds = (2, 2, 1) if given.smoke else (given.runs, given.steps, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), runs, steps, rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
