"""What a worker remembers of its runs spares it a wait for PostgreSQL, and counts exactly as long as it is so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, insert, select

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import Batch, GroupCommit
from runyard_common.database.transaction import Store, Tx
from runyard_common.runs.queries import events, transitions, workers
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.rules.tasks import Head
from runyard_common.runs.service import attempts, limits, steps, submissions
from runyard_common.runs.service.cancellations import cancel_tasks
from runyard_common.runs.service.claims import Claim, Claimed, claim
from runyard_common.runs.service.limits import LimitRequest
from runyard_common.tables.query import Delivery, Endpoint, JournalEntry, Slot, Task, TaskEvent
from runyard_common.values.errors import StaleFence
from runyard_common.values.ids import uuid7
from runyard_common.webhooks.queries import deliveries
from tests.round_trips import RoundTrips

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.timeout(180)]


class Worker:
    """A worker's store and writer; `others` is the store of another process."""

    def __init__(self, db: Database, others: Database) -> None:
        self.store, self.others = Store(db), Store(others)
        self.org, self.id, self.writer = uuid7(), uuid7(), GroupCommit(self.store)
        with self.others.begin() as tx:
            self.ref = agents.publish(tx, self.org, parse({"name": "@test/noop", "kind": "python"})).ref
            workers.enlist(tx, self.id, "test", 1, 1000, 1e9)

    def claim(self, count: int = 1) -> list[Claimed]:
        with self.others.begin() as tx:
            specs = [RunSpec(uuid7(), self.org, self.ref, "native", {"args": {}}) for _ in range(count)]
            submissions.submit(tx, specs)
        return self.do(claim, Claim(self.id, count)).claimed  # type: ignore[no-any-return]

    def do(self, batch: Batch, command: Any) -> Any:
        """The answer, or the error that it is."""
        return _answer(self.writer.submit(batch, command))

    def finish(self, run: Claimed) -> Any:
        return self.do(attempts.finish, attempts.Finish(run.task.id, run.task.fence, {"ok": True}))

    def emit(self, run: Claimed) -> Any:
        return self.do(steps.emit, steps.Emit(run.task.id, run.task.fence, (("log", {"message": "a"}),)))

    def step(self, run: Claimed, key: str = "a") -> Any:
        step = Step(key, "step", key, "idempotent", pos=1)
        return self.do(steps.end, steps.End(run.task.id, run.task.fence, step, 1))

    def numbers(self, run: Claimed) -> list[int]:
        """The numbers of its events."""
        query = select(TaskEvent.seq).where(TaskEvent.task_id == run.task.id).order_by(TaskEvent.seq)
        return self.found(query)

    def found(self, query: Any) -> list[Any]:
        with self.others.read() as conn:
            return list(conn.execute(query).scalars())

    def close(self) -> None:
        self.writer.close()


@pytest.fixture(scope="module")
def direct(migrated_database: Callable[[], str]) -> str:
    return migrated_database()


@pytest.fixture(scope="module")
def counted(direct: str) -> Iterator[RoundTrips]:
    with RoundTrips(direct) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def opened(direct: str, counted: RoundTrips) -> Iterator[tuple[Database, Database]]:
    both = Database(counted.url), Database(direct)
    yield both
    for db in both:
        db.close()


@pytest.fixture
def worker(opened: tuple[Database, Database]) -> Iterator[Worker]:
    made = Worker(*opened)
    yield made
    made.close()


def test_an_event_a_step_and_the_end_of_a_run_each_wait_once(worker: Worker, counted: RoundTrips) -> None:
    trips = []
    for _ in range(3):
        (run,) = worker.claim()
        for write in (worker.emit, worker.step, worker.finish):
            before = counted.trips
            write(run)
            trips.append(counted.trips - before)
        assert worker.numbers(run) == [1, 2, 3, 4]  # submitted, claimed, the event, the end
    assert trips[3:] == [1] * 6  # at first the connection is opened, and there is no sample of the clock


def test_several_runs_of_one_transaction_are_checked_together(worker: Worker, counted: RoundTrips) -> None:
    runs = [*worker.claim(7), *worker.claim(2)]
    with worker.others.begin() as tx:
        cancel_tasks(tx, [runs[3].task.id], "test")
    ends = [attempts.Finish(run.task.id, run.task.fence, 1) for run in runs]
    answers = _together(worker, attempts.finish, ends)
    assert [isinstance(one, StaleFence) for one in answers] == [run is runs[3] for run in runs]
    last = worker.claim(4)
    before = counted.trips
    _together(worker, attempts.finish, [attempts.Finish(run.task.id, run.task.fence, 1) for run in last])
    assert counted.trips - before == 2  # and the transaction that keeps the thread until all are queued


def test_an_event_of_another_process_moves_the_numbers_and_leaves_no_gap(worker: Worker) -> None:
    (run,) = worker.claim()
    worker.emit(run)
    with worker.others.begin() as tx:
        heads = transitions.lock(tx, [run.task.id])
        events.append(tx, heads, [(run.task.id, "user_message", {"content": "hi"})])
    worker.emit(run)
    assert isinstance(worker.finish(run), Head)
    assert worker.numbers(run) == [1, 2, 3, 4, 5, 6]


def test_a_run_that_was_cancelled_meanwhile_has_no_second_end(worker: Worker) -> None:
    (run,) = worker.claim()
    with worker.others.begin() as tx:
        cancel_tasks(tx, [run.task.id], "test")
    assert isinstance(worker.emit(run), StaleFence)
    assert isinstance(worker.step(run), StaleFence)
    assert isinstance(worker.finish(run), StaleFence)
    assert worker.found(select(Task.status).where(Task.id == run.task.id)) == [Status.STOPPED.value]
    assert worker.numbers(run) == [1, 2, 3]


def test_a_slot_of_a_limit_that_came_meanwhile_is_given_back(worker: Worker) -> None:
    (run,) = worker.claim()
    with worker.others.begin() as tx:
        limits.save(tx, worker.org, LimitRequest("agent", "@test/noop", max_concurrent=1))
    slots = select(Slot.task_id).where(Slot.task_id == run.task.id)
    assert worker.found(slots) == [run.task.id]
    assert isinstance(worker.finish(run), Head)
    assert worker.found(slots) == []


def test_an_endpoint_that_came_meanwhile_hears_of_the_end(worker: Worker) -> None:
    (run,) = worker.claim()
    with worker.others.begin() as tx:
        given = {"id": uuid7(), "org_id": worker.org, "style": "test", "url": "http://a", "events": []}
        more = {"payload_mode": "full", "secret": b"", "created_at": tx.now, "updated_at": tx.now}
        tx.conn.execute(insert(Endpoint), given | more)
    looked: list[str] = []
    enqueue = deliveries._active

    def look(conn: Any, org_ids: Any) -> Any:
        looked.extend(org_ids)
        return enqueue(conn, org_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deliveries, "_active", look)
        worker.finish(run)
    assert looked == [worker.org]
    assert worker.found(select(func.count()).select_from(Delivery.__table__)) == [0]  # of an unknown style


def test_a_step_whose_answer_was_lost_is_on_record_once(worker: Worker) -> None:
    (run,) = worker.claim()
    assert worker.step(run) is None
    assert worker.step(run) is None
    query = select(JournalEntry.key).where(JournalEntry.task_id == run.task.id)
    assert worker.found(query) == ["a"]
    assert worker.step(run, "b") is None
    assert sorted(worker.found(query)) == ["a", "b"]


def test_a_write_that_was_rolled_back_is_not_remembered(worker: Worker) -> None:
    (run,) = worker.claim()

    def write_and_roll_back(tx: Tx, commands: Sequence[steps.Emit]) -> list[None]:
        savepoint = tx.conn.begin_nested()
        steps.emit(tx, commands)
        savepoint.rollback()
        steps.emit(tx, commands)
        return [None]

    emitted = steps.Emit(run.task.id, run.task.fence, (("log", {"message": "a"}),))
    worker.do(write_and_roll_back, emitted)
    worker.finish(run)
    assert worker.numbers(run) == [1, 2, 3, 4]


async def test_a_transaction_locks_the_tasks_of_all_its_commands_in_one_order(
    worker: Worker, direct: str
) -> None:
    first, second = sorted(worker.claim(2), key=lambda run: run.task.id)
    tries = 0

    def emit(tx: Tx, commands: Sequence[steps.Emit]) -> Any:
        nonlocal tries
        tries += 1
        return steps.emit(tx, commands)

    emit.locks_tasks = True  # type: ignore[attr-defined]
    lock = "SELECT 1 FROM tasks WHERE id = %s FOR UPDATE"
    url = direct.replace("+psycopg", "")
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as watch:
        other.execute(lock, (first.task.id,))
        end = attempts.Finish(first.task.id, first.task.fence, {"ok": True})
        ended = worker.writer.ask_with_next(attempts.finish, end)
        event = steps.Emit(second.task.id, second.task.fence, (("log", {}),))
        emitted = worker.writer.ask(emit, event)  # comes first in the transaction
        _until_one_waits(watch)
        # What locks both in their order, as a cancel of their parent does, is not kept up by who waits.
        other.execute(lock, (second.task.id,))
        other.rollback()
    assert await emitted.future is None
    assert isinstance(await ended.future, Head)
    assert tries == 1


def _until_one_waits(watch: psycopg.Connection) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 20
    while not watch.execute(waiting).fetchone():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _together(worker: Worker, batch: Batch, commands: Sequence[Any]) -> list[Any]:
    """The answers to commands of one transaction."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(tx: Tx, commands: Sequence[None]) -> Sequence[None]:
        begun.set()
        assert go_on.wait(50)
        return commands

    worker.writer.submit(wait, None)
    assert begun.wait(50)
    waiting = [worker.writer.submit(batch, command) for command in commands]
    go_on.set()
    return [_answer(one) for one in waiting]


def _answer(waiting: Future[Any]) -> Any:
    return waiting.exception(10) or waiting.result()
