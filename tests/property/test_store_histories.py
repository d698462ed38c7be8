"""Random histories of the store keep its promises: one owner, one end, limits that hold, nothing lost.

Hypothesis drives submissions, claims, ends, questions, stops, lost workers and stale writes in any order, on
SQLite and on PostgreSQL, against a small model of what must be true.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, update

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store, Tx
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import events, limits, tasks, workers
from runyard_common.runs.rules.admission import Kind, Rule
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import OCCUPIES_SLOTS, TERMINAL, Cause, Status
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec
from runyard_common.runs.rules.tasks import Failure, Fence
from runyard_common.runs.service import (
    admissions,
    attempts,
    cancellations,
    claims,
    rescues,
    steps,
    submissions,
)
from runyard_common.tables import metadata
from runyard_common.tables.query import Slot, Worker
from runyard_common.values.errors import RunyardError, StaleFence
from runyard_common.values.ids import uuid7

pytestmark = pytest.mark.processes

ORGS = ("org-a", "org-b")


class Histories(RuleBasedStateMachine):
    """See the module."""

    database: ClassVar[Any]  # makes a `Database`
    claimed = Bundle("claimed")  # (task id, attempt) that some worker once owned

    @initialize()
    def open(self) -> None:
        self.db = self.database()
        self.store = Store(self.db)
        self.ended: dict[str, Status] = {}
        self.submitted: set[str] = set()
        self.owners: dict[str, int] = {}  # task -> highest attempt seen
        self.clock = 0.0
        self.workers = [uuid7() for _ in range(2)]
        self.maximum = {"org-a": 2, "org-b": 3}
        with self.begin() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.conn.execute(delete(table))
            for org, most in self.maximum.items():
                manifest = parse({"name": "@t/a", "kind": "python"})
                agents.publish(tx, org, manifest)
                limits.save(tx, _limit(org, most))
            for worker in self.workers:
                workers.enlist(tx, worker, "h", 1, 10, 1e9)

    def begin(self) -> Any:
        return self.store.begin()

    def transact(self, work: Callable[[Tx], Any]) -> Any:
        with self.begin() as tx:
            answer = work(tx)
        if tx.freed:
            with self.begin() as after:
                admissions.admit(after, tx.freed)
        return answer

    @rule(org=st.sampled_from(ORGS), count=st.integers(1, 3), priority=st.integers(0, 2))
    def submit(self, org: str, count: int, priority: int) -> None:
        with self.store.read() as conn:
            ref = agents.resolve(OrgScope(conn, org), "@t/a").ref
        specs = [RunSpec(uuid7(), org, ref, "native", {"args": {}}, priority=priority) for _ in range(count)]
        for answer in self.transact(lambda tx: submissions.submit(tx, specs)):
            assert isinstance(answer, AcceptedRun)
            self.submitted.add(answer.task_id)

    @rule(target=claimed, worker=st.integers(0, 1), slots=st.integers(1, 3))
    def claim(self, worker: int, slots: int) -> Any:
        (claimed,) = self.transact(lambda tx: claims.claim(tx, [claims.Claim(self.workers[worker], slots)]))
        assert not isinstance(claimed, RunyardError)
        assert len(claimed.claimed) <= slots
        for one in claimed.claimed:
            assert one.task.attempt > self.owners.get(one.task.id, 0), "an attempt was handed out twice"
            self.owners[one.task.id] = one.task.attempt
        return tuple((one.task.id, one.task.fence) for one in claimed.claimed)

    @rule(owned=claimed, how=st.sampled_from(["finish", "fail", "retry", "ask", "review", "release", "step"]))
    def end(self, owned: tuple[tuple[str, Fence], ...], how: str) -> None:
        for task_id, fence in owned:
            before = self.task(task_id)
            answer = self.transact(lambda tx: _end(tx, how, task_id, fence))  # noqa: B023
            mine = before.status is Status.RUNNING and before.fence == fence
            assert isinstance(answer, StaleFence) is not mine, (how, before.status, before.fence, fence)

    # What is drawn depends on nothing but what was drawn before: a retry's pause ends by the database's clock, so
    # that the same history may find other tasks waiting when Hypothesis repeats it.
    @rule(which=st.integers(0, 89))
    def answer(self, which: int) -> None:
        waiting = [t for t in self.all() if t.status in (Status.WAITING_FOR_INPUT, Status.AWAITING_REVIEW)]
        if not waiting:
            return
        task = waiting[which % len(waiting)]
        if task.status is Status.WAITING_FOR_INPUT:
            self.transact(lambda tx: answers.post_message(tx, task.org_id, task.id, "yes", None))
        else:
            self.transact(
                lambda tx: answers.review(tx, task.org_id, task.id, answers.Decision("approve"), None)
            )

    @rule(which=st.integers(0, 89))
    def stop(self, which: int) -> None:
        if not self.submitted:
            return
        task_id = sorted(self.submitted)[which % len(self.submitted)]
        was = self.task(task_id).status
        (answer,) = self.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "test"))
        assert isinstance(answer, RunyardError) is (was in TERMINAL)

    @rule(worker=st.integers(0, 1))
    def lose_a_worker(self, worker: int) -> None:
        lost = self.workers[worker]

        def work(tx: Tx) -> None:
            tx.conn.execute(update(Worker).where(Worker.id == lost).values(lost=True))
            assert not workers.heartbeat(tx, lost, 1, workers.Health(running=0, capacity=1))
            assert isinstance(claims.claim(tx, [claims.Claim(lost, 1)])[0], claims.LeaseLost)

        self.transact(work)
        while self.transact(lambda tx: rescues.rescue(tx, lost)):
            pass
        self.workers[worker] = uuid7()
        self.transact(lambda tx: workers.enlist(tx, self.workers[worker], "h", 1, 10, 1e9))

    @rule(org=st.sampled_from(ORGS), most=st.integers(0, 4))
    def change_a_limit(self, org: str, most: int) -> None:
        self.maximum[org] = most
        self.transact(lambda tx: limits.save(tx, _limit(org, most)))
        self.transact(lambda tx: admissions.admit(tx, [BlockedBy.limit(f"{org}|organisation:{org}")]))

    @invariant()
    def no_limit_is_exceeded_by_admission(self) -> None:
        if not hasattr(self, "db"):
            return
        holding = Counter(t.org_id for t in self.all() if t.status in OCCUPIES_SLOTS)
        with self.store.read() as conn:
            slots = Counter(key.split("|")[0] for key in conn.execute(select(Slot.limit_key)).scalars())
        assert slots == holding, "the slots are exactly the tasks that hold them"
        for org in ORGS:
            # A lowered limit ends nothing; it may not admit while over it.
            self.peak = getattr(self, "peak", {})
            assert holding[org] <= max(self.maximum[org], self.peak.get(org, 0))
            self.peak[org] = holding[org]

    @invariant()
    def an_end_is_for_ever(self) -> None:
        if not hasattr(self, "db"):
            return
        for task in self.all():
            if task.id in self.ended:
                assert task.status is self.ended[task.id]
            elif task.status in TERMINAL:
                self.ended[task.id] = task.status

    @invariant()
    def nothing_is_lost_and_logs_have_no_gaps(self) -> None:
        if not hasattr(self, "db"):
            return
        everything = {task.id: task for task in self.all()}
        assert self.submitted <= set(everything)
        with self.store.read() as conn:
            for task in everything.values():
                log = events.after(OrgScope(conn, task.org_id), task.id, 0, 10_000)
                assert [e["seq"] for e in log] == list(range(1, task.last_seq + 1))
                assert sum(e["type"] in ("finish", "fail", "expire", "stop") for e in log) == (
                    task.status in TERMINAL
                )

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()

    def task(self, task_id: str) -> Any:
        with self.store.read() as conn:
            return tasks.load(conn, [task_id])[task_id]

    def all(self) -> list[Any]:
        with self.store.read() as conn:
            return list(tasks.load(conn, self.submitted).values())


def _limit(org: str, most: int) -> Rule:
    return Rule(f"limit-{org}", org, Kind.ORGANISATION, "*", most)


def _end(tx: Tx, how: str, task_id: str, fence: Fence) -> Any:
    asked = attempts.Asked("k#" + uuid7(), "review" if how == "review" else "question", {"text": "?"})
    again = Failure("x", "x", Cause.INFRASTRUCTURE, retryable=how == "retry")
    match how:
        case "finish":
            return attempts.finish(tx, [attempts.Finish(task_id, fence, {"ok": True})])[0]
        case "fail" | "retry":
            return attempts.fail(tx, [attempts.Fail(task_id, fence, again)])[0]
        case "ask" | "review":
            return attempts.suspend(tx, [attempts.Suspend(task_id, fence, (asked,))])[0]
        case "release":
            return attempts.release(tx, [attempts.Release(task_id, fence)])[0]
    step = Step("s#" + uuid7(), "step", "s", "read", pos=1)
    end = steps.End(task_id, fence, step, 1, events=(("step", {}),))
    return steps.end(tx, [end])[0]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_random_histories_keep_the_promises(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        folder = tempfile.mkdtemp()
        url = f"sqlite:///{Path(folder) / 'x.db'}"
    else:
        url = request.getfixturevalue("migrated_database")().replace(
            "postgresql://", "postgresql+psycopg://", 1
        )
    db = Database(url)
    migrate.upgrade(db)
    db.close()

    class OnThis(Histories):
        database = staticmethod(lambda: Database(url))

    run_state_machine_as_test(
        OnThis,
        settings=settings(
            max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
