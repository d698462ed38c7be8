"""What it costs a claim that a worker has some agents and not others, beside the claim that asks for none.

python -m tests.benchmarks.bench_claims [--database postgresql://…] [--tasks 4000] [--stuck 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from runyard import Context
from runyard_common.runs.queries import workers
from runyard_common.runs.service import claims, submissions
from runyard_common.values.ids import uuid7
from tests.installation import Installation

BATCH = 50
MINE = tuple(f"@bench/agent{n}@1.0.0" for n in range(20))


async def noop(ctx: Context, args: dict[str, Any]) -> None:
    """Does nothing."""


async def fill(site: Installation, agent: str, count: int) -> None:
    """Submit `count` runs."""
    for _ in range(0, count, 500):
        specs = [site.spec(agent, {}) for _ in range(500)]
        await asyncio.gather(*(site.writer.call(submissions.submit, spec) for spec in specs))


def claim(site: Installation, agents: tuple[str, ...] | None) -> float:
    """Seconds of one claim of a batch."""
    worker = uuid7()
    site.transact(lambda tx: workers.enlist(tx, worker, "bench", 1, BATCH, 600.0))
    began = time.perf_counter()
    batch = site.transact(lambda tx: claims.claim(tx, [claims.Claim(worker, BATCH, agents)])[0])
    seconds = time.perf_counter() - began
    assert len(batch.claimed) == BATCH
    return seconds


async def measure(url: str, tasks: int, stuck: int) -> None:
    """Print the medians and their ratios."""
    async with Installation(url) as site:
        name = site.publish(noop, "@bench/noop")
        having = (*MINE, f"{name}@1.0.0")
        await fill(site, name, tasks)
        plain, listed = [], []
        for _ in range(tasks // BATCH // 3):
            plain.append(claim(site, None))
            listed.append(claim(site, having))
        other = site.publish(noop, "@bench/other")
        await fill(site, other, stuck)  # they stand behind what is left …
        await fill(site, name, tasks)
        left = tasks - 2 * BATCH * (tasks // BATCH // 3)
        for _ in range(left // BATCH):
            claim(site, having)
        behind = [claim(site, having) for _ in range(20)]  # … and in front of this
    base = statistics.median(plain)
    print(f"a claim of {BATCH}: {base * 1000:.1f} ms without a list of agents")
    print(f"with {len(having)} agents: {statistics.median(listed) / base:.2f} of that")
    print(f"behind {stuck} runs that wait for other workers: {statistics.median(behind) / base:.2f} of that")


def main() -> None:
    """Measure on SQLite, or the database given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", default="")
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--stuck", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.database or f"sqlite:///{Path(folder) / 'bench.db'}"
        asyncio.run(measure(url, given.tasks, given.stuck))


if __name__ == "__main__":
    main()
