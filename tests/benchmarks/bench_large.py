"""Claims beside ten thousand organisations with work, admissions where a limit keeps as many queued, ten thousand
agents, the lateness of event loops beside runs with megabytes, and runs that resume behind thousands of steps.

python -m tests.benchmarks.bench_large [--organisations 10000] [--agents 10000] [--steps 500 1000 2000 4000]
    [--bytes 50000] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, text

from runyard import Context
from runyard_common.human_tasks.service import answers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.tables.query import JournalEntry
from tests import databases as migrated
from tests.benchmarks import large_agents, large_values
from tests.benchmarks.bench_schedules import databases
from tests.installation import Installation
from tests.integration.test_many_lanes import Crowd
from tests.integration.test_queued_lanes import Queue

TASKS = 20_000
ROUNDS = 30
FEW_AGENTS = 50
_CHUNK = 200


def crowd(url: str, organisations: int) -> Crowd:
    """`TASKS` pending tasks of so many organisations."""
    made = Crowd(migrated.opened(url))
    made.add([f"org-{number:05}" for number in range(organisations)], max(1, TASKS // organisations))
    if made.store.db.is_postgres:
        with made.store.db.engine.connect() as conn:
            conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    return made


def claims(one: Crowd, many: Crowd, slots: int) -> tuple[float, float]:
    """Seconds of a claim beside one organisation and beside many, in turns: the medians."""
    seen: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for took, made in zip(seen, (one, many), strict=True):
            began = time.perf_counter()
            made.claim(slots)
            took.append(time.perf_counter() - began)
    return statistics.median(seen[0]), statistics.median(seen[1])


def queued(url: str, organisations: int) -> Queue:
    """`TASKS` runs of so many organisations behind a limit of two slots."""
    made = Queue(migrated.opened(url))
    made.add([f"org-{number:05}" for number in range(organisations)], max(1, TASKS // organisations))
    if made.store.db.is_postgres:
        with made.store.db.engine.connect() as conn:
            conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))
    made.admit()
    return made


def admissions(one: Queue, many: Queue) -> tuple[float, float]:
    """Seconds from the end of two runs to the admission of the next, behind one organisation and behind many."""
    seen: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for took, made in zip(seen, (one, many), strict=True):
            claimed = made.claim()
            began = time.perf_counter()
            made.end(claimed)
            took.append(time.perf_counter() - began)
    return statistics.median(seen[0]), statistics.median(seen[1])


async def stepped(ctx: Context, args: dict[str, Any]) -> None:
    """A step, a question, and as many steps more as the journal was given meanwhile."""

    async def work() -> str:
        return "x" * int(args["bytes"])

    await ctx.step("large", work)
    await ctx.ask("Go on?")
    for _ in range(args["steps"] - 1):
        await ctx.step("large", work)


async def resumed(url: str, steps: int, bytes_: int) -> tuple[float, float]:
    """Processor seconds and MiB at the peak that it takes to resume behind so many steps of so many bytes."""
    async with Installation(url, capacity=5) as site:
        name = site.publish(stepped)
        await site.engine()
        task_id = await site.submit(name, {"steps": steps, "bytes": bytes_})
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        site.transact(lambda tx: _copy_step(tx.conn, task_id, steps))
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        memory, began = _memory("VmRSS"), _processor()
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "yes", "bench"))
        task = await site.ended(task_id, seconds=300)
        assert task.status is Status.COMPLETED, task.error
        return _processor() - began, _memory("VmHWM") - memory


def _copy_step(conn: Any, task_id: str, steps: int) -> None:
    table = JournalEntry.__table__
    first = dict(conn.execute(select(*table.c).where(table.c.task_id == task_id)).first()._mapping)
    for start in range(2, steps + 1, _CHUNK):
        numbers = range(start, min(start + _CHUNK, steps + 1))
        conn.execute(insert(table), [first | {"key": f"large#{n}", "pos": n} for n in numbers])


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main() -> None:
    """Measure on each database."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--organisations", type=int, default=10_000)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--bytes", type=int, default=50_000)
    parser.add_argument("--database", choices=["postgres", "sqlite"], action="append")
    given = parser.parse_args()
    for kind in given.database or ["postgres", "sqlite"]:
        with databases(kind) as (one_url, many_url):
            one, many = crowd(one_url, 1), crowd(many_url, given.organisations)
            for slots in (1, 50):
                of_one, of_many = claims(one, many, slots)
                print(
                    f"{kind}: a claim of {slots} beside {given.organisations:,} organisations with work, to one: "
                    f"{of_many / of_one:.2f} ({1e3 * of_many:.1f} ms)"
                )
            for made in (one, many):
                made.store.db.close()
        with databases(kind) as (one_url, many_url):
            behind_one, behind_many = queued(one_url, 1), queued(many_url, given.organisations)
            of_one, of_many = admissions(behind_one, behind_many)
            print(
                f"{kind}: two runs end and two of {given.organisations:,} organisations are admitted, to one: "
                f"{of_many / of_one:.2f} ({1e3 * of_many:.1f} ms)"
            )
            for each in (behind_one, behind_many):
                each.store.db.close()
        with databases(kind) as (few_url, many_url):
            for line in large_agents.compare(few_url, many_url, FEW_AGENTS, given.agents):
                print(f"{kind}: with {given.agents:,} agents, to {FEW_AGENTS}: {line}")
        with databases(kind) as (url, _):
            for line in large_values.compare(url if kind == "postgres" else ""):
                print(f"{kind}: {line}")
        for steps in given.steps:
            with databases(kind) as (url, _):
                seconds, memory = asyncio.run(resumed(url, steps, given.bytes))
            print(
                f"{kind}: resumed behind {steps:,} steps of {given.bytes:,} bytes: {1e3 * seconds / steps:.2f} ms of "
                f"processor time a step, {memory:.0f} MiB"
            )


if __name__ == "__main__":
    main()
