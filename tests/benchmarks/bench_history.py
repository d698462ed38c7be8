"""What the hot paths cost beside a million finished tasks: the same work on a thousand and on a million, in turns.

Processor time is counted, of this process and of PostgreSQL's: what else the machine does changes it little.

python -m tests.benchmarks.bench_history [--stored 1000000] [--rounds 15] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec
from runyard_common.runs.service import attempts, claims, queues, submissions
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Admit, Expire, Rescue
from tests.benchmarks.bench_schedules import databases
from tests.benchmarks.history import fill

FEW: Final = 1_000
BATCH: Final = 50
_REPEATS: Final = 5
_BACKENDS: Final = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
)


class History:
    """A database with `stored` finished tasks of one organisation, and a worker that goes on working."""

    def __init__(self, url: str, stored: int) -> None:
        self.stored = stored
        self.began = time.time()
        self._backends: Sequence[int] = ()
        self.db = Database(url)
        migrate.upgrade(self.db)
        self.store = Store(self.db)
        self.org, self.worker = uuid7(), uuid7()
        with self.store.begin() as tx:
            self.ref = agents.publish(tx, self.org, parse({"name": "@bench/noop", "kind": "python"})).ref
            workers.enlist(tx, self.worker, "bench", 1, 1000, 1e9)
        self.task_id = self._work(defaultdict(float))
        fill(self.db, self.task_id, stored)

    def work(self) -> dict[str, float]:
        """Processor seconds that a batch takes to submit, to claim and to finish."""
        took: dict[str, float] = {}
        self._work(took)
        return took

    def timed(self, read: Callable[[], object]) -> float:
        """Processor seconds that one of `reads` or `totals` takes."""
        began = self._processor()
        read()
        return self._processor() - began

    def _processor(self) -> float:
        used = time.process_time()
        for backend in self._backends:
            used += int(Path(f"/proc/{backend}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
        return used

    def look_for_backends(self) -> None:
        """Learn which processes of PostgreSQL serve this database."""
        if self.db.is_postgres:
            with self.db.engine.connect() as conn:
                self._backends = list(conn.execute(_BACKENDS).scalars())

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

    def reads(self) -> dict[str, Callable[[], object]]:
        """What is looked at all the time: by callers, by autoscalers, by schedulers."""
        page = Filter()
        failed = Filter(statuses=(Status.FAILED,))
        stopped = Filter(statuses=(Status.STOPPED,))
        return {
            "get a task": self._read(lambda scope: tasks.get(scope, self.task_id)),
            "first page": self._read(lambda scope: tasks.page(scope, page, 20)),
            "dead letters": self._read(lambda scope: tasks.page(scope, failed, 20)),
            "stopped": self._read(lambda scope: tasks.page(scope, stopped, 20)),
            "a past day": self._read(lambda scope: tasks.page(scope, self._past_day(), 20)),
            "backlog": self._read(
                lambda scope: queues.backlog(scope.conn, self.db.now(scope.conn), 200, self.org)
            ),
            "admit": Admit(self.store).run_once,
            "rescue": Rescue(self.store).run_once,
            "expire": Expire(self.store).run_once,
        }

    def totals(self) -> dict[str, Callable[[], object]]:
        """What counts rows."""
        return {"count of runs": self._read(lambda scope: tasks.count(scope, Filter()))}

    def _read(self, work: Callable[[OrgScope], object]) -> Callable[[], object]:
        def read() -> None:
            with self.store.read() as conn:
                work(OrgScope(conn, self.org))

        return read

    def _past_day(self) -> Filter:
        return Filter(created_after=self.began - 20 * 86_400, created_before=self.began - 19 * 86_400)

    @contextmanager
    def _timed(self, took: dict[str, float], name: str) -> Iterator[None]:
        began = self._processor()
        yield
        took[name] = self._processor() - began


def compare(few: History, many: History, rounds: int) -> dict[str, float]:
    """The speed beside many as a part of that beside few, of the medians, by kind of work; printed."""
    both = (few, many)
    seen: tuple[_Times, _Times] = (defaultdict(list), defaultdict(list))
    reads = [history.reads() for history in both]
    for number in range(rounds + 1):
        for history, times in zip(both, seen, strict=True):
            history.look_for_backends()
            for name, seconds in history.work().items():
                times[name].append(seconds)
        _look(both, seen, reads)
        if number == 0:  # it has warmed caches and plans
            for times in seen:
                times.clear()
    # At the end: an exact count passes through the database's cache, and what follows it would find that empty.
    _look(both, seen, [history.totals() for history in both])
    return {name: _printed(name, [statistics.median(times[name]) for times in seen]) for name in seen[0]}


_Times = defaultdict[str, list[float]]


def _look(both: Sequence[History], seen: Sequence[_Times], reads: Sequence[dict[str, Any]]) -> None:
    """Each read in turns on both, so that what else this machine does meets both."""
    for name in reads[0]:
        for _ in range(_REPEATS):
            for history, times, its in zip(both, seen, reads, strict=True):
                times[name].append(history.timed(its[name]))


def _printed(name: str, medians: Sequence[float]) -> float:
    low, high = medians
    print(f"  {name:<14}{1e3 * low:9.2f} ms{1e3 * high:9.2f} ms   speed {low / high:5.2f}")
    return low / high


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
