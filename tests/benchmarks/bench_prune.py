"""What claiming a run costs while a scheduler prunes, beside what it costs while none does.

python -m tests.benchmarks.bench_prune [--tasks 20000] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from typing import Any, Final

from sqlalchemy import insert, select

from runyard_common.agents.service import agents
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.files import open_files
from runyard_common.identity.rules.retention import DAY_S
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.runs.service.claims import Claim, claim
from runyard_common.tables.query import Task, TaskEvent
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Prune
from tests.benchmarks.bench_schedules import databases
from tests.clockwork import Clockwork

_CHUNK: Final = 2_000
_EVENTS: Final = 10
_PACE: Final = 0.02


class Past:
    """A database full of tasks that ended long ago, and a worker that claims new ones."""

    def __init__(self, url: str, count: int) -> None:
        db = Database(url)
        migrate.upgrade(db)
        db.close()
        self.clock = Clockwork(url)
        self.clock.publish()
        self._worker = uuid7()
        self._fill(count)
        self.clock.now += 60 * DAY_S
        self.clock.transact(lambda tx: workers.enlist(tx, self._worker, "h", 1, 10, 1e9))

    def _submit(self) -> str:
        with self.clock.begin() as tx:
            ref = agents.resolve(tx.scope(self.clock.org), "@test/echo").ref
            spec = RunSpec(uuid7(), self.clock.org, ref, "native", {"message": "x"})
            submissions.submit(tx, [spec])
        return spec.task_id

    def _fill(self, count: int) -> None:
        first = self._submit()
        with self.clock.db.read() as conn:
            task = dict(conn.execute(select(*Task.__table__.c).where(Task.id == first)).one()._mapping)
            event = dict(conn.execute(select(*TaskEvent.__table__.c)).one()._mapping)
        ended = {"status": "completed", "finished_at": self.clock.now}
        for _ in range(0, count, _CHUNK):
            ids = [uuid7() for _ in range(_CHUNK)]
            with self.clock.db.begin() as conn:
                conn.execute(insert(Task), [task | ended | {"id": id_} for id_ in ids])
                rows: list[dict[str, Any]] = [
                    event | {"task_id": id_, "seq": seq} for id_ in ids for seq in range(1, _EVENTS + 1)
                ]
                conn.execute(insert(TaskEvent), rows)

    def claims(self, until: threading.Event | None, seconds: float = 10.0) -> list[float]:
        """Seconds that each submit and claim took, at a steady pace, until `done` is set or for `seconds`."""
        seen: list[float] = []
        end = time.monotonic() + seconds
        while not until.is_set() if until else time.monotonic() < end:
            started = time.perf_counter()
            self._submit()
            self.clock.transact(lambda tx: claim(tx, [Claim(self._worker, 1)]))
            seen.append(time.perf_counter() - started)
            time.sleep(_PACE)
        return sorted(seen)

    def prune(self, done: threading.Event) -> tuple[int, float]:
        """Prune everything as a scheduler does, with its pauses; tasks deleted, and how long it took."""
        with tempfile.TemporaryDirectory() as folder:
            duty = Prune(self.clock.store, open_files(folder), 30.0)
            deleted, started = 0, time.perf_counter()
            while duty.due_in is None or duty.due_in < 1:
                deleted += duty.run_once()
                time.sleep(min(duty.due_in or 0.0, 1.0))
            done.set()
            return deleted, time.perf_counter() - started


def _summary(name: str, seen: list[float]) -> str:
    p50, p99, worst = (1000 * seen[at] for at in (len(seen) // 2, int(len(seen) * 0.99), -1))
    return f"  {name:14} {len(seen):5} claims: p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  worst {worst:6.1f} ms"


def measure(url: str, count: int) -> None:
    """Claims alone, then claims beside a pruning scheduler."""
    past = Past(url, count)
    print(_summary("alone", past.claims(None)))
    done = threading.Event()
    found: list[list[float]] = []
    claimer = threading.Thread(target=lambda: found.append(past.claims(done)))
    claimer.start()
    deleted, seconds = past.prune(done)
    claimer.join()
    print(_summary("while pruning", found[0]))
    pace = deleted / seconds
    print(f"  {deleted:,} tasks with {_EVENTS} events each pruned in {seconds:.1f} s: {pace:,.0f} a second")
    past.clock.writer.close()
    past.clock.db.close()


def main() -> None:
    """Measure on each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--database", choices=["postgres", "sqlite"], action="append")
    given = parser.parse_args()
    for kind in given.database or ["postgres", "sqlite"]:
        print(f"{kind}: submit and claim")
        with databases(kind) as (url, _):
            measure(url, given.tasks)


if __name__ == "__main__":
    main()
