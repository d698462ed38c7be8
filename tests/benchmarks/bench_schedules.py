"""The cost of one look at the schedules: a million stored beside a thousand, a thousand of them due in both.

python -m tests.benchmarks.bench_schedules [--stored 1000000] [--due 1000] [--rounds 7] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.tables.query import Schedule
from runyard_common.values.ids import uuid7
from tests.clockwork import Clockwork
from tests.servers import Postgres, fresh_database

FEW: Final = 1_000
_CHUNK: Final = 10_000
_AHEAD: Final = 86_400.0  # those that are not due are spread over the coming day


class Timetable:
    """`stored` schedules on a database of their own, `due` of which come due in each round."""

    def __init__(self, url: str, stored: int, due: int) -> None:
        db = Database(url)
        migrate.upgrade(db)
        db.close()
        self.clock = Clockwork(url)
        self.stored = stored
        self._due = due
        self._round = 0
        self.clock.publish()
        self._fill()

    def _fill(self) -> None:
        first = self.clock.schedule("* * * * *", overlap="allow")
        with self.clock.db.begin() as conn:
            row = dict(conn.execute(Schedule.__table__.select()).one()._mapping)
        for start in range(1, self.stored, _CHUNK):
            rows = [self._row(row, n) for n in range(start, min(start + _CHUNK, self.stored))]
            with self.clock.db.begin() as conn:
                conn.execute(Schedule.__table__.insert(), rows)
        self._settle()
        assert first.next_due_at is not None

    def _row(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        if number < self._due:
            return row | {"id": uuid7()}
        wake = self.clock.now + 3_600 + _AHEAD * number / self.stored
        return row | {"id": uuid7(), "next_due_at": wake, "wake_at": wake}

    def _settle(self) -> None:
        """Let the database put itself in order, as it does by itself in time."""
        if self.clock.db.is_postgres:
            with self.clock.db.engine.connect() as conn:
                conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))

    def tick(self) -> float:
        """The next minute comes and one scheduler looks: seconds it takes until all that is due has fired."""
        self._round += 1
        self.clock.now += 60
        scheduler = self.clock.scheduler()
        started = time.perf_counter()
        made = scheduler.run_once()
        seconds = time.perf_counter() - started
        assert made == self._due, made
        return seconds

    def idle(self) -> float:
        """Seconds that a look takes which finds nothing due."""
        scheduler = self.clock.scheduler()
        started = time.perf_counter()
        for _ in range(100):
            scheduler.run_once()
        return (time.perf_counter() - started) / 100

    def close(self) -> None:
        """End it."""
        self.clock.writer.close()
        self.clock.db.close()


def compare(few_url: str, many_url: str, stored: int, due: int, rounds: int) -> float:
    """Measure both in turns; the ratio of the medians."""
    tables = [Timetable(few_url, max(FEW, due), due), Timetable(many_url, stored, due)]
    times: list[list[float]] = [[], []]
    for table in tables:
        table.tick()  # the first warms caches and plans
    for _ in range(rounds):
        for table, seen in zip(tables, times, strict=True):
            seen.append(table.tick())
    for table, seen in zip(tables, times, strict=True):
        middle = statistics.median(seen)
        print(
            f"  {table.stored:>9,} stored, {due:,} due: tick {1000 * middle:8.1f} ms"
            f" ({min(seen) * 1000:.0f} to {max(seen) * 1000:.0f}), {1e6 * middle / due:6.0f} µs a run;"
            f" idle look {1e6 * table.idle():6.0f} µs"
        )
    few, many = (statistics.median(seen) for seen in times)
    for table in tables:
        table.close()
    print(f"  ratio {many / few:.2f}")
    return many / few


@contextmanager
def databases(kind: str) -> Iterator[tuple[str, str]]:
    """Two empty databases of this kind."""
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        if kind == "sqlite":
            yield f"sqlite:///{Path(folder) / 'few.db'}", f"sqlite:///{Path(folder) / 'many.db'}"
            return
        server = Postgres()
        server.start()
        try:
            few, many = (
                fresh_database(server.url).replace("postgresql://", "postgresql+psycopg://", 1)
                for _ in range(2)
            )
            yield few, many
        finally:
            server.stop()


def main() -> None:
    """Compare on each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--database", choices=["postgres", "sqlite"], action="append")
    given = parser.parse_args()
    for kind in given.database or ["postgres", "sqlite"]:
        print(f"{kind}: one tick of one scheduler")
        with databases(kind) as (few, many):
            compare(few, many, given.stored, given.due, given.rounds)


if __name__ == "__main__":
    main()
