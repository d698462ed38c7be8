"""Kill schedulers in turn while schedules come due; then count from the rows what fired, and how late.

python -m tests.chaos.schedulers [--schedules 2000] [--seconds 120] [--schedulers 3] [--database postgres|sqlite]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.agents.service.model_choice import ModelChoice
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.outbound import OutboundPolicy
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.service.runs import Caller, RunRules
from runyard_common.schedules.queries.schedules import due_ids
from runyard_common.schedules.rules.new_schedule import Wanted
from runyard_common.schedules.rules.policies import Jitter
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.schedules.service import schedules
from runyard_common.settings import Settings
from runyard_common.tables.query import Fire, Task
from tests.servers import Postgres, fresh_database
from tests.stack import Stack
from tests.waiting import wait_until

#: How long everything due may take to fire once the kills are over, in seconds.
PATIENCE = 90.0


@dataclass
class Verdict:
    """What was due, what fired, and how late each kind of schedule was (seconds)."""

    due: int = 0
    kills: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    lateness: dict[str, list[float]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every due time fired exactly once, and nothing else did."""
        return not (self.missing or self.unexpected or self.doubled)

    def __str__(self) -> str:
        wrong = (self.missing, self.unexpected, self.doubled)
        counts = "{} missing, {} unexpected, {} doubled".format(*map(len, wrong))
        lines = [f"{self.due} due times, {self.kills} kills: {counts}"]
        lines += [f"  {text}" for found in wrong for text in found[:5]]
        for kind, seen in sorted(self.lateness.items()):
            if seen:
                p50, p99 = _quantile(seen, 0.5), _quantile(seen, 0.99)
                lines.append(
                    f"  lateness, {kind:24} {len(seen):6} fires: p50 {p50 * 1000:7.1f} ms  p99 {p99 * 1000:8.1f} ms"
                )
        return "\n".join(lines)


def _quantile(seen: Sequence[float], share: float) -> float:
    return sorted(seen)[min(len(seen) - 1, int(share * len(seen)))]


#: What kind the nth schedule is: all on the minute, spread over each minute's seconds, or once.
KINDS = ("every minute at once", "every minute, spread", "once", "once")


class Timetable:
    """The schedules of one run, kept as they were made."""

    def __init__(self, url: str) -> None:
        self.store = Store(Database(url))
        self.made: list[tuple[str, StoredSchedule]] = []
        self.rules = RunRules(
            Sealer(new_key()), OutboundPolicy.parse(True, ""), 10**6, ModelChoice(Settings()), 10**6
        )
        with self.store.begin() as tx:
            self.org = identity.insert_organisation(tx, "chaos")
            self.agent = agents.publish(tx, self.org, parse({"name": "@chaos/tick", "kind": "python"}))

    @staticmethod
    def on_sqlite(file: Path) -> Timetable:
        """On a new SQLite database."""
        url = f"sqlite:///{file}"
        db = Database(url)
        migrate.upgrade(db)
        db.close()
        return Timetable(url)

    def fill(self, count: int, seconds: float) -> None:
        """Make `count` schedules; those that fire once do so within `seconds`."""
        for start in range(0, count, 200):
            with self.store.begin() as tx:
                for number in range(start, min(start + 200, count)):
                    kind = KINDS[number % len(KINDS)]
                    once = 1.0 + (seconds - 1.0) * number / count
                    when: Any = "* * * * *" if kind.startswith("every") else once
                    wanted = Wanted(
                        when,
                        catch_up="all",
                        overlap="allow",
                        jitter_s=59.0 if kind.endswith("spread") else 0.0,
                    )
                    request = RunRequest(message="tick")
                    caller = Caller(self.org, "key:chaos")
                    new = schedules.prepare(wanted, request, self.agent, caller, self.rules, now=tx.now)
                    self.made.append((kind, schedules.create(tx, new)))

    def wait_until_done(self, until: float) -> None:
        """Wait until nothing that was released by `until` waits to fire."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with self.store.read() as conn:
                if self.store.db.now(conn) > until and not due_ids(conn, until, 1):
                    return
            time.sleep(0.1)

    def judge(self, until: float) -> Verdict:
        """Compare the rows with every due time released by `until`."""
        with self.store.read() as conn:
            rows = conn.execute(select(Fire.schedule_id, Fire.due_at, Fire.task_id, Fire.fired_at)).all()
            made = Counter(conn.execute(select(Task.schedule_id)).scalars())
            tasks = set(conn.execute(select(Task.id)).scalars())
        verdict = Verdict(lateness={kind: [] for kind in KINDS})
        fired: dict[str, dict[float, Any]] = {}
        for row in rows:
            fired.setdefault(row.schedule_id, {})[row.due_at] = row
        for kind, schedule in self.made:
            own = fired.get(schedule.id, {})
            expected = set(_due_times(schedule, until))
            verdict.due += len(expected)
            jitter = Jitter(schedule.id, schedule.jitter_s)
            verdict.missing += [f"{schedule.id} at {due}" for due in expected - own.keys()]
            for due, row in own.items():
                if row.task_id not in tasks:
                    verdict.missing.append(f"{schedule.id} at {due}: no task")
                if due not in expected and jitter.release_at(due) <= until:
                    verdict.unexpected.append(f"{schedule.id} at {due}")
                verdict.lateness[kind].append(row.fired_at - jitter.release_at(due))
            if made[schedule.id] != len(own):
                verdict.doubled.append(f"{schedule.id}: {made[schedule.id]} tasks for {len(own)} fires")
        return verdict


def _due_times(schedule: StoredSchedule, until: float) -> Iterator[float]:
    times, jitter = schedule.times, schedule.jitter
    due = times.first_due(schedule.created_at)
    while due is not None and due <= until:
        if jitter.release_at(due) <= until:
            yield due
        due = times.next_after(due)


class Hand:
    """Kills one scheduler after the other, each once the one before is up again."""

    def __init__(self, stack: Stack, schedulers: int) -> None:
        self._stack = stack
        self._names = [f"scheduler-{number}" for number in range(1, schedulers + 1)]
        self._starts = dict.fromkeys(self._names, 1)
        self.kills = 0

    def wait_until_up(self) -> None:
        """Wait until every scheduler has started as often as it was started."""
        wait_until(lambda: all(map(self._is_up, self._names)), seconds=PATIENCE)

    def kill_next(self) -> None:
        """SIGKILL, and a new life."""
        name = self._names[self.kills % len(self._names)]
        self._stack.kill(name)
        self._stack.start(name)
        self._starts[name] += 1
        self.kills += 1

    def _is_up(self, name: str) -> bool:
        log = self._stack.logs / f"{name}.log"
        return log.exists() and log.read_text().count("The scheduler is up") >= self._starts[name]


def run(
    count: int, seconds: float, schedulers: int, database: str, every: float, folder: Path | None = None
) -> Verdict:
    """Kill one scheduler after the other for `seconds`, with `every` seconds between; the verdict."""
    base = folder or Path(tempfile.mkdtemp(prefix="runyard-chaos-"))
    try:
        with (
            _database(database, base) as url,
            Stack(base, database_url=url, api=0, workers=0, schedulers=schedulers) as stack,
        ):
            hand = Hand(stack, schedulers)
            hand.wait_until_up()
            table = Timetable(url or f"sqlite:///{stack.home / 'runyard.db'}")
            table.fill(count, seconds)
            end = time.time() + seconds
            while time.time() < end:
                hand.kill_next()
                hand.wait_until_up()
                time.sleep(every)
            until = time.time()
            table.wait_until_done(until)
            verdict = table.judge(until)
            table.store.db.close()
            verdict.kills = hand.kills
            return verdict
    finally:
        if folder is None:
            shutil.rmtree(base, ignore_errors=True)


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    """URL of an empty PostgreSQL database; an empty text for SQLite in the home."""
    if kind == "sqlite":
        yield ""
        return
    server = Postgres()
    server.start()
    try:
        yield fresh_database(server.url).replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.stop()


def main() -> int:
    """Run it and print the verdict; 1 when something fired twice or not at all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--schedulers", type=int, default=3)
    parser.add_argument(
        "--every", type=float, default=1.0, help="seconds from one's start to the next one's kill"
    )
    parser.add_argument("--database", choices=["postgres", "sqlite"], default="postgres")
    given = parser.parse_args()
    print(f"{given.schedules} schedules, {given.schedulers} schedulers killed in turn, {given.database}")
    verdict = run(given.schedules, given.seconds, given.schedulers, given.database, given.every)
    print(verdict)
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
