"""What the fence and the isolation of runs cost: the same engine with and without each, in the same process.

python -m tests.benchmarks.bench_isolation [--runs 400] [--rounds 5]

Ratios of wall time, medians of interleaved rounds, with / without:
- durable claims: the claims of an engine on PostgreSQL wait for the disk, or do not (with `fsync`, as in production);
- guarded loop: runs of twenty steps each on a loop whose tasks know their run, or on a plain one;
- watchdog: the same runs with the watchdog asking the loop for a sign of life, or without.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from runyard import Context
from runyard_common.database.engine import Durability
from runyard_common.runs.service import claims, submissions
from runyard_workers.isolation.loop_guard import LoopGuard
from runyard_workers.isolation.watchdog import Watchdog
from tests.installation import Installation
from tests.servers import Postgres, fresh_database

AWAITS = 20


async def _agent(ctx: Context, args: dict[str, Any]) -> None:
    for _ in range(AWAITS):
        await asyncio.sleep(0)


async def _seconds(site: Installation, name: str, runs: int) -> float:
    """Submit `runs` at once and wait until the last has ended."""
    specs = [site.spec(name) for _ in range(runs)]
    began = time.perf_counter()
    accepted = [site.writer.submit(submissions.submit, spec) for spec in specs]
    for one in accepted:
        await asyncio.wrap_future(one)
    for spec in specs:
        await site.ended(spec.task_id, seconds=120)
    return time.perf_counter() - began


async def _ratio(
    rounds: int, with_it: Callable[[], Awaitable[float]], without: Callable[[], Awaitable[float]]
) -> float:
    await with_it(), await without()  # warm
    pairs = [(await with_it(), await without()) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


async def _durable_claims(url: str, runs: int, rounds: int) -> float:
    async with Installation(url) as site:
        await site.engine()
        name = site.publish(_agent)

        async def at(durability: Durability) -> float:
            claims.claim.durability = durability  # type: ignore[attr-defined]
            return await _seconds(site, name, runs)

        try:
            return await _ratio(rounds, lambda: at(Durability.PROCESS), lambda: at(Durability.NONE))
        finally:
            claims.claim.durability = Durability.PROCESS  # type: ignore[attr-defined]


async def _guarded_loop(url: str, runs: int, rounds: int) -> float:
    async with Installation(url) as site:
        await site.engine()
        name, loop = site.publish(_agent), asyncio.get_running_loop()

        async def guarded() -> float:
            site.guard.install(loop)
            return await _seconds(site, name, runs)

        async def plain() -> float:
            loop.set_task_factory(None)
            return await _seconds(site, name, runs)

        return await _ratio(rounds, guarded, plain)


async def _watchdog(url: str, runs: int, rounds: int) -> float:
    async with Installation(url) as site:
        await site.engine()
        name = site.publish(_agent)

        async def watched() -> float:
            watchdog = Watchdog(asyncio.get_running_loop(), LoopGuard(), 10.0, lambda _: None, hard=True)
            watchdog.start()
            try:
                return await _seconds(site, name, runs)
            finally:
                await asyncio.to_thread(watchdog.stop)

        return await _ratio(rounds, watched, lambda: _seconds(site, name, runs))


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    postgres = Postgres(fsync="on", full_page_writes="on")
    postgres.start()
    try:
        url = fresh_database(postgres.url).replace("postgresql://", "postgresql+psycopg://", 1)
        ratio = asyncio.run(_durable_claims(url, given.runs, given.rounds))
        print(f"durable claims on PostgreSQL, wall with / without: {ratio:.2f}")
    finally:
        postgres.stop()
    with tempfile.TemporaryDirectory() as folder:
        sqlite = f"sqlite:///{Path(folder) / 'runyard.db'}"
        ratio = asyncio.run(_guarded_loop(sqlite, given.runs, given.rounds))
        print(f"guarded loop, wall with / without: {ratio:.2f}")
        ratio = asyncio.run(_watchdog(sqlite, given.runs, given.rounds))
        print(f"watchdog, wall with / without: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
