"""What the transactions of a run cost in CPU, one at a time and in batches, to the same by a bare driver.

python -m tests.benchmarks.bench_transactions [--rounds 20] [--database postgres|sqlite]

The bare driver inserts the same task and its event, updates it and appends an event twice, each in a transaction of its
own, by prepared statements in a pipeline: the least that a durable queue can do.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database import migrate
from runyard_common.database.engine import Database, Durability
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import attempts, claims, submissions
from runyard_common.values.ids import uuid7
from tests.benchmarks.bench_schedules import databases

BATCH: Final = 32
Statement = tuple[str, Sequence[Sequence[Any]]]
Took = dict[str, list[float]]
_TABLES: Final = (
    "CREATE TABLE bare_tasks (id varchar PRIMARY KEY, org varchar, status varchar, seq bigint, at double precision)",
    "CREATE TABLE bare_events (id varchar, seq bigint, type varchar, data text, at double precision)",
    "CREATE UNIQUE INDEX bare_events_key ON bare_events (id, seq)",
)
_EVENT: Final = "INSERT INTO bare_events VALUES ({0}, {0}, {0}, {0}, {0})"
_TASK: Final = "INSERT INTO bare_tasks VALUES ({0}, {0}, {0}, {0}, {0})"
_CHANGE: Final = "UPDATE bare_tasks SET status = {0}, seq = {0} WHERE id = {0}"


class Runyard:
    """Runs that are accepted, claimed and finished, each step in one transaction."""

    def __init__(self, url: str) -> None:
        self.db = Database(url)
        migrate.upgrade(self.db)
        self.store = Store(self.db)
        self.org, self.worker = uuid7(), uuid7()
        with self.store.begin() as tx:
            self.ref = agents.publish(tx, self.org, parse({"name": "@bench/noop", "kind": "python"})).ref
            workers.enlist(tx, self.worker, "bench", 1, 1000, 1e9)

    def _write(self, batch: Callable[..., Any], commands: Sequence[Any], durability: Durability) -> Any:
        with self.store.begin(durability) as tx:
            tx.retried = True
            return batch(tx, commands)

    def round(self, count: int, took: Took) -> None:
        """`count` runs."""
        specs = [RunSpec(uuid7(), self.org, self.ref, "native", {"args": {}}) for _ in range(count)]
        accept, asked = submissions.submit_remembered, [claims.Claim(self.worker, count)]
        _timed(took, "accept", count, lambda: self._write(accept, specs, Durability.DISK))
        (got,) = _timed(took, "claim", count, lambda: self._write(claims.claim, asked, Durability.PROCESS))
        ends = [attempts.Finish(one.task.id, one.task.fence, {"ok": True}) for one in got.claimed]
        _timed(took, "finish", count, lambda: self._write(attempts.finish, ends, Durability.DISK))


class BarePostgres:
    """The same by psycopg."""

    def __init__(self, url: str) -> None:
        self._conn = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        for table in _TABLES:
            self._conn.execute(table.encode())

    def write(self, *statements: Statement) -> None:
        """One transaction."""
        with self._conn.pipeline(), self._conn.cursor() as cursor:
            cursor.execute("BEGIN")
            for text, rows in statements:
                cursor.executemany(text.format("%s").encode(), rows)
            cursor.execute("COMMIT")


class BareSqlite:
    """The same by sqlite3."""

    def __init__(self, url: str) -> None:
        self._conn = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        for table in ("PRAGMA journal_mode=WAL", *_TABLES):
            self._conn.execute(table)

    def write(self, *statements: Statement) -> None:
        """One transaction."""
        self._conn.execute("BEGIN IMMEDIATE")
        for text, rows in statements:
            self._conn.executemany(text.format("?"), rows)
        self._conn.execute("COMMIT")


def bare_round(bare: BarePostgres | BareSqlite, count: int, took: Took) -> None:
    """`count` runs by a bare driver."""
    ids, now = [uuid7() for _ in range(count)], time.time()
    tasks = (_TASK, [(one, "org", "pending", 1, now) for one in ids])

    def step(seq: int, kind: str) -> tuple[Any, Any]:
        event = (_EVENT, [(one, seq, kind, "{}", now) for one in ids])
        return (_CHANGE, [(kind, seq, one) for one in ids]), event

    _timed(took, "accept", count, lambda: bare.write(tasks, step(1, "submit")[1]))
    _timed(took, "claim", count, lambda: bare.write(*step(2, "claim")))
    _timed(took, "finish", count, lambda: bare.write(*step(3, "finish")))


def _timed(took: Took, name: str, count: int, work: Callable[[], Any]) -> Any:
    began = time.process_time()
    answer = work()
    took[f"{name} {'alone' if count == 1 else f'of {count}'}"].append((time.process_time() - began) / count)
    return answer


def compare(kind: str, rounds: int) -> None:
    """Runyard beside the bare driver in turns, printed: the ratio of the medians, and milliseconds a run."""
    with databases(kind) as (own, others):
        runyard = Runyard(own)
        bare = BarePostgres(others) if kind == "postgres" else BareSqlite(others)
        ours, theirs = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        for number in range(rounds + 2):
            for count, times in ((1, 10), (BATCH, 2)):
                for _ in range(times):
                    runyard.round(count, ours)
                    bare_round(bare, count, theirs)
            if number == 1:  # statements are prepared and memory is filled
                ours.clear()
                theirs.clear()
        for name, seconds in ours.items():
            own_cost, its_cost = statistics.median(seconds), statistics.median(theirs[name])
            print(f"{kind:10}{name:16}{own_cost / its_cost:6.2f}  ({own_cost * 1e3:.3f} ms of CPU a run)")
        runyard.db.close()


def main() -> None:
    """Compare on each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--database", choices=["postgres", "sqlite"], action="append")
    given = parser.parse_args()
    for kind in given.database or ["postgres", "sqlite"]:
        compare(kind, given.rounds)


if __name__ == "__main__":
    main()
