"""Clockwork: schedules on a real database with a clock that the test moves, and no worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.agents.service.model_choice import ModelChoice
from runyard_common.clock import KnownClock
from runyard_common.commit_hooks import admit_freed
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.engine import Database, metadata
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.outbound import OutboundPolicy
from runyard_common.runs.queries import events, tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service.runs import Caller, RunRules
from runyard_common.runtime import NoNotifier, Runtime
from runyard_common.schedules.queries import fires
from runyard_common.schedules.queries import schedules as schedule_rows
from runyard_common.schedules.rules.new_schedule import Wanted
from runyard_common.schedules.rules.stored_schedule import StoredSchedule
from runyard_common.schedules.service import schedules
from runyard_common.settings import Settings
from runyard_common.stream.live import Live
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Fire

NOON = datetime.fromisoformat("2026-06-01T12:00:00+00:00").timestamp()


def at(text: str) -> float:
    """The instant of `hh:mm[:ss]` (UTC) on the day of `NOON`, or of a whole ISO date-time."""
    whole = text if "T" in text else f"2026-06-01T{text}"
    moment = datetime.fromisoformat(whole if whole[-6] in "+-" or whole.endswith("Z") else whole + "+00:00")
    return moment.timestamp()


class Clockwork:
    """Use as `with Clockwork(url) as clock` on a migrated database, which it empties.

    `clock.now` is the time that everybody reads.
    """

    def __init__(self, url: str, now: float = NOON, **rules: Any) -> None:
        self.db = Database(url)
        with self.db.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        runtime = Runtime(self.db, Live(""), NoNotifier())
        self.store, self.writer = runtime.store, runtime.writer
        self.now = now
        self.db.now = lambda connection: self.now  # type: ignore[method-assign]
        self.db.clock_of = lambda connection: KnownClock(self.now)  # type: ignore[method-assign]
        rule = RunRules(Sealer(new_key()), OutboundPolicy.parse(True, ""), 100_000, ModelChoice(Settings()))
        self.rules = replace(rule, **rules)
        self.schedulers = [self.scheduler(), self.scheduler()]
        self.org = self.transact(lambda tx: identity.insert_organisation(tx, "tested"))

    def __enter__(self) -> Clockwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()
        self.db.close()

    def scheduler(self) -> Fire:
        """Another scheduler's duty."""
        return Fire(self.store, self.rules)

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A transaction at the clock's time."""
        with self.store.begin() as tx:
            yield tx

    def transact(self, work: Callable[[Tx], Any]) -> Any:
        with self.begin() as tx:
            return work(tx)

    def settle(self) -> None:
        """Wait until what follows the commits so far has been done."""
        self.writer.submit(admit_freed, frozenset()).result(60)

    def tick(self, now: float | str | None = None) -> int:
        """Set the clock and let every scheduler look once; how many runs were made."""
        if now is not None:
            self.now = at(now) if isinstance(now, str) else now
        return sum(scheduler.run_once() for scheduler in self.schedulers)

    def publish(self, name: str = "@test/echo", version: str = "1.0.0", **manifest: Any) -> str:
        """Publish an agent without code; its name."""
        document = parse({"name": name, "version": version, "kind": "python"} | manifest)
        self.transact(lambda tx: agents.publish(tx, self.org, document))
        return name

    def schedule(
        self,
        when: Any,
        agent: str = "@test/echo",
        run: dict[str, Any] | None = None,
        caller: Caller | None = None,
        **wanted: Any,
    ) -> StoredSchedule:
        """Store a schedule made at the clock's time."""
        with self.begin() as tx:
            version = (run or {}).get("version")
            found = agents.resolve(tx.scope(self.org), agent, version)
            new = schedules.prepare(
                Wanted(when, **wanted),
                RunRequest.model_validate(run or {"message": "tick"}),
                found,
                caller or Caller(self.org, "key:k1", key_id="k1"),
                self.rules,
                now=self.now,
            )
            return schedules.create(tx, new)

    def stored(self, schedule: StoredSchedule) -> StoredSchedule:
        """The schedule as it is now."""
        with self.store.read() as conn:
            found = schedule_rows.get(OrgScope(conn, schedule.org_id), schedule.id)
        assert found is not None
        return found

    def fires(self, schedule: StoredSchedule) -> list[fires.FireRow]:
        """Its history, oldest due time first."""
        with self.store.read() as conn:
            return [row for row, _ in fires.page(OrgScope(conn, schedule.org_id), schedule.id, 100_000)][::-1]

    def fired(self, schedule: StoredSchedule) -> list[str]:
        """When it fired, as `hh:mm` (UTC), oldest first; every time has exactly one task."""
        rows = [row for row in self.fires(schedule) if row.task_id]
        made = self.tasks(schedule)
        assert sorted(row.task_id or "" for row in rows) == sorted(task.id for task in made)
        return [_clock(row.due_at) for row in rows]

    def outcomes(self, schedule: StoredSchedule) -> list[tuple[str, str]]:
        """(hh:mm, outcome) of its history."""
        return [(_clock(row.due_at), row.outcome) for row in self.fires(schedule)]

    def tasks(self, schedule: StoredSchedule) -> list[Task]:
        """The runs of a schedule, oldest first."""
        with self.store.read() as conn:
            wanted = Filter(schedule_id=schedule.id)
            return tasks.whole_page(OrgScope(conn, schedule.org_id), wanted, 100_000, most_bytes=2**40)[::-1]

    def log(self, task_id: str) -> list[str]:
        """The types of a task's events."""
        with self.store.read() as conn:
            return [event["type"] for event in events.after(OrgScope(conn, self.org), task_id, 0, 100)]

    def end(self, task: Task, event: Event = Event.FINISH) -> None:
        """A worker takes the task and ends it so."""
        self.transact(lambda tx: end_task(tx, task.id, event))
        self.settle()

    def change(self, schedule: StoredSchedule, **changes: Any) -> StoredSchedule:
        """Change it as a caller would."""
        stored: StoredSchedule = self.transact(
            lambda tx: schedules.update(tx, self.org, schedule.id, changes, None, self.rules)
        )
        return stored

    def with_rules(self, **rules: Any) -> None:
        """Let everybody go by other rules from now on."""
        self.rules = replace(self.rules, **rules)
        self.schedulers = [self.scheduler(), self.scheduler()]


def end_task(tx: Tx, task_id: str, event: Event) -> None:
    worker = {"attempt": 1, "lease_owner": uuid7(), "started_at": tx.now}
    for change in (Change(task_id, Event.CLAIM, values=worker), Change(task_id, event)):
        (answer,) = move(tx, [change])
        assert not isinstance(answer, Exception), answer


def _clock(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%H:%M")
