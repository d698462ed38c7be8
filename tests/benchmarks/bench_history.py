"""What the hot paths cost beside a million finished tasks: the same work on a thousand and on a million, in turns.

python -m tests.benchmarks.bench_history [--stored 1000000] [--rounds 15] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import text

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec
from runyard_common.runs.service import attempts, claims, queues, submissions
from runyard_common.tables.query import Task, TaskEvent
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Admit, Expire, Rescue
from tests.benchmarks.bench_schedules import databases

FEW: Final = 1_000
BATCH: Final = 50
_CHUNK: Final = 10_000


class History:
    """A database with `stored` finished tasks of one organisation, and a worker that goes on working."""

    def __init__(self, url: str, stored: int) -> None:
        self.stored = stored
        self.began = time.time()
        self.db = Database(url)
        migrate.upgrade(self.db)
        self.store = Store(self.db)
        self.org, self.worker = uuid7(), uuid7()
        with self.store.begin() as tx:
            self.ref = agents.publish(tx, self.org, parse({"name": "@bench/noop", "kind": "python"})).ref
            workers.enlist(tx, self.worker, "bench", 1, 1000, 1e9)
        self.task_id = self._work(defaultdict(float))
        self._fill()

    def _fill(self) -> None:
        """Copies of a task that really ran, a failed one in ten, over the last month."""
        event = TaskEvent.__table__
        with self.db.read() as conn:
            done = dict(conn.execute(Task.__table__.select().where(Task.id == self.task_id)).one()._mapping)
            logged = conn.execute(event.select().where(TaskEvent.task_id == self.task_id)).all()
        last = dict(logged[-1]._mapping)
        for start in range(0, self.stored, _CHUNK):
            rows = [self._copy(done, n) for n in range(start, min(start + _CHUNK, self.stored))]
            with self.db.begin() as conn:
                conn.execute(Task.__table__.insert(), rows)
                conn.execute(event.insert(), [last | {"task_id": row["id"]} for row in rows])
        if self.db.is_postgres:
            with self.db.engine.connect() as conn:
                conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))

    def _copy(self, done: dict[str, Any], number: int) -> dict[str, Any]:
        ago = 2_592_000.0 * (self.stored - number) / self.stored
        times = {name: done[name] - ago for name in ("created_at", "updated_at", "started_at", "finished_at")}
        status = Status.FAILED if number % 10 == 0 else Status.COMPLETED
        return done | times | {"id": _id_of(times["created_at"]), "status": status.value}

    def round(self) -> dict[str, float]:
        """Seconds of each kind of work, `BATCH` runs of it."""
        took: dict[str, float] = {}
        self._work(took)
        for name, work in self._reads().items():
            began = time.perf_counter()
            work()
            took[name] = time.perf_counter() - began
        return took

    def _work(self, took: dict[str, float]) -> str:
        """Submit, claim and finish a batch; the first task's id."""
        specs = [RunSpec(uuid7(), self.org, self.ref, "native", {"args": {}}) for _ in range(BATCH)]
        with self._timed(took, "submit"), self.store.begin() as tx:
            assert all(isinstance(answer, AcceptedRun) for answer in submissions.submit(tx, specs))
        with self._timed(took, "claim"), self.store.begin() as tx:
            (claimed,) = claims.claim(tx, [claims.Claim(self.worker, BATCH)])
        assert isinstance(claimed, claims.Batch)
        assert len(claimed.claimed) == BATCH
        ends = [
            attempts.Finish(one.task.id, one.task.fence, {"ok": True}, (), None) for one in claimed.claimed
        ]
        with self._timed(took, "finish"), self.store.begin() as tx:
            attempts.finish(tx, ends)
        return specs[0].task_id

    def _reads(self) -> dict[str, Callable[[], object]]:
        def in_read(work: Callable[[OrgScope], object]) -> Callable[[], object]:
            def read() -> None:
                with self.store.read() as conn:
                    work(OrgScope(conn, self.org))

            return read

        page = tasks.Filter()
        failed = tasks.Filter(statuses=(Status.FAILED,))
        stopped = tasks.Filter(statuses=(Status.STOPPED,))
        return {
            "get a task": in_read(lambda scope: tasks.get(scope, self.task_id)),
            "first page": in_read(lambda scope: tasks.page(scope, page, 20)),
            "dead letters": in_read(lambda scope: tasks.page(scope, failed, 20)),
            "stopped": in_read(lambda scope: tasks.page(scope, stopped, 20)),
            "a past day": in_read(lambda scope: tasks.page(scope, self._past_day(), 20)),
            "count of runs": in_read(lambda scope: tasks.count(scope, page)),
            "backlog": in_read(
                lambda scope: queues.backlog(scope.conn, self.db.now(scope.conn), 200, self.org)
            ),
            "admit": Admit(self.store).run_once,
            "rescue": Rescue(self.store).run_once,
            "expire": Expire(self.store).run_once,
        }

    def _past_day(self) -> tasks.Filter:
        return tasks.Filter(created_after=self.began - 20 * 86_400, created_before=self.began - 19 * 86_400)

    @contextmanager
    def _timed(self, took: dict[str, float], name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        took[name] = time.perf_counter() - began


def _id_of(at: float) -> str:
    """An id as it would have been made at that time (epoch seconds)."""
    made = uuid.UUID(uuid7()).int
    return str(uuid.UUID(int=int(at * 1000) << 80 | made & ((1 << 80) - 1)))


def compare(few: History, many: History, rounds: int) -> dict[str, float]:
    """The speed beside many as a part of that beside few, of the medians, by kind of work; printed."""
    seen: list[dict[str, list[float]]] = [defaultdict(list), defaultdict(list)]
    for number in range(rounds + 2):
        for history, times in zip((few, many), seen, strict=True):
            for name, seconds in history.round().items():
                if number >= 2:  # the first warm caches and plans
                    times[name].append(seconds)
    ratios = {}
    for name in seen[0]:
        low, high = (statistics.median(times[name]) for times in seen)
        ratios[name] = low / high
        print(f"  {name:<14}{1e3 * low:9.2f} ms{1e3 * high:9.2f} ms   speed {low / high:5.2f}")
    return ratios


def main() -> None:
    """Compare on each database."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--database", choices=["postgres", "sqlite"], action="append")
    given = parser.parse_args()
    for kind in given.database or ["postgres", "sqlite"]:
        with databases(kind) as (few_url, many_url):
            few, many = History(few_url, FEW), History(many_url, given.stored)
            print(
                f"{kind}: beside {FEW:,} finished tasks, beside {given.stored:,}; submit, claim, finish {BATCH} at once"
            )
            compare(few, many, given.rounds)
            few.db.close()
            many.db.close()


if __name__ == "__main__":
    main()
