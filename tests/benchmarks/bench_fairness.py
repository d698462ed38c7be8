"""What a neighbour's flood, and thousands of waiting runs, cost everybody else: ratios to the idle system.

python -m tests.benchmarks.bench_fairness [--flood 5000] [--probes 20] [--waiting 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from runyard import Context
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.tasks import Fence
from runyard_common.runs.service import submissions
from tests.installation import Installation

FLOOD, QUIET = "org-flood", "org-quiet"


async def brief(ctx: Context, args: dict[str, Any]) -> float:
    """Works a moment; returns when it began."""
    began = time.time()
    await asyncio.sleep(0.02)
    return began


async def delays(site: Installation, agent: str, probes: int, every: float) -> list[float]:
    """Seconds from submit to start of one run of the quiet organisation, every `every` seconds."""
    found = []
    for _ in range(probes):
        began = time.time()
        task = await site.ended(await site.submit(agent, org_id=QUIET), seconds=60)
        found.append(float(task.output) - began)
        await asyncio.sleep(every)
    return found


async def flooded(
    flood: int, probes: int, every: float, url: str
) -> tuple[list[float], list[float], list[int]]:
    """The quiet organisation's start delays on the idle system, and beside the flood; and by how many runs of the flood
    each of those was overtaken: they began between its submit and its start."""
    async with Installation(url, capacity=20) as site:
        agent = site.publish(brief)
        await site.engine()
        await delays(site, agent, 3, 0.0)
        idle = await delays(site, agent, probes, every)
        specs = [site.spec(agent, org_id=FLOOD) for _ in range(flood)]
        for start in range(0, flood, 250):
            part = specs[start : start + 250]
            await asyncio.to_thread(site.transact, lambda tx: submissions.submit(tx, part))  # noqa: B023
        loaded = await delays(site, agent, probes, every)
        site.engines[0].wake()
        return idle, loaded, await asyncio.to_thread(_overtaken, site, probes)


def _overtaken(site: Installation, probes: int) -> list[int]:
    query = """
        SELECT (SELECT count(*) FROM tasks AS other WHERE other.org_id = :flood
                AND other.started_at > probe.created_at AND other.started_at < probe.started_at)
        FROM tasks AS probe WHERE probe.org_id = :quiet ORDER BY probe.created_at DESC LIMIT :probes"""
    with site.store.read() as conn:
        found = conn.execute(text(query), {"flood": FLOOD, "quiet": QUIET, "probes": probes})
        return [int(count) for count in found.scalars()]


async def crowded(waiting: int, probes: int, url: str) -> tuple[list[float], list[float], int]:
    """Start delays before and after `waiting` runs wait for input; and the runs the worker then holds."""
    async with Installation(url, capacity=20) as site:
        agent = site.publish(brief)
        engine = await site.engine()
        await delays(site, agent, 3, 0.0)
        before = await delays(site, agent, probes, 0.0)
        specs = [site.spec(agent, org_id=FLOOD) for _ in range(waiting)]
        for start in range(0, waiting, 500):
            part = specs[start : start + 500]
            await asyncio.to_thread(site.transact, lambda tx: _park(tx, part))  # noqa: B023
        after = await delays(site, agent, probes, 0.0)
        return before, after, engine.running


def _park(tx: Any, specs: list[Any]) -> None:
    """Submit runs and move each to waiting_for_input through the store's own transitions."""
    submissions.submit(tx, specs)
    tx.woken = 0
    claimed = [
        Change(
            s.task_id,
            Event.CLAIM,
            values={
                "attempt": 1,
                "claim_token": "parked",
                "lease_owner": "parked",
                "resume": 0,
                "started_at": tx.now,
            },
        )
        for s in specs
    ]
    move(tx, claimed)
    move(tx, [Change(s.task_id, Event.ASK, Fence(1, "parked")) for s in specs])


def main() -> int:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flood", type=int, default=5000)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--probes", type=int, default=20)
    parser.add_argument("--every", type=float, default=1.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = f"sqlite:///{Path(folder)}"
        idle, loaded, _ = asyncio.run(flooded(given.flood, given.probes, given.every, f"{base}/flood.db"))
        before, after, slots = asyncio.run(crowded(given.waiting, given.probes, f"{base}/crowd.db"))
    for what, one, other in (
        (f"beside a flood of {given.flood}", idle, loaded),
        (f"beside {given.waiting} waiting", before, after),
    ):
        p50 = statistics.median(one), statistics.median(other)
        print(
            f"start delay {what}: p50 {1000 * p50[1]:.1f} ms, idle {1000 * p50[0]:.1f} ms, ratio {p50[1] / p50[0]:.2f}"
        )
    print(f"runs slots by the worker for the waiting ones: {slots}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
