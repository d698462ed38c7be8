"""What two processes write at the same time, each by a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from runyard_api.state import _each
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store, Tx
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec
from runyard_common.runs.rules.tasks import Head
from runyard_common.runs.service import (
    admissions,
    attempts,
    cancellations,
    claims,
    limits,
    submissions,
)
from runyard_common.tables.query import Slot
from runyard_common.values.errors import IllegalTransition, TooManyRequests
from runyard_common.values.ids import uuid7
from tests import databases

BOUND = 20


@pytest.fixture
def stores(database_url: str) -> Iterator[tuple[Store, Store]]:
    databases.opened(database_url).close()
    first, second = Database(database_url), Database(database_url)
    yield Store(first), Store(second)
    first.close()
    second.close()


def test_a_small_backlog_bound_is_exact(stores: tuple[Store, Store]) -> None:
    org_id = uuid7()
    with stores[0].begin() as tx:
        ref = agents.publish(tx, org_id, parse({"name": "@side/one", "kind": "python"})).ref
    together = threading.Barrier(2)

    def submit(store: Store) -> list[object]:
        writer = GroupCommit(store)
        together.wait(50)
        pending = [
            writer.submit(submissions.submit, RunSpec(uuid7(), org_id, ref, "native", {}, max_queued=BOUND))
            for _ in range(60)
        ]
        answers = [one.exception(30) or one.result(30) for one in pending]
        writer.close()
        return answers

    with ThreadPoolExecutor(2) as pool:
        answers = [answer for its in pool.map(submit, stores) for answer in its]
    assert sum(isinstance(answer, AcceptedRun) for answer in answers) == BOUND
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 120 - BOUND


def test_a_limit_that_is_made_while_a_run_ends_keeps_no_slot_of_it(stores: tuple[Store, Store]) -> None:
    org_id, worker = uuid7(), uuid7()
    with stores[0].begin() as tx:
        ref = agents.publish(tx, org_id, parse({"name": "@side/one", "kind": "python"})).ref
        workers.enlist(tx, worker, "side", 1, 10, 1e9)
        submissions.submit(tx, [RunSpec(uuid7(), org_id, ref, "native", {})])
    with stores[0].begin() as tx:
        (batch,) = claims.claim(tx, [claims.Claim(worker, 1)])
    assert isinstance(batch, claims.Batch)
    task = batch.claimed[0].task
    wanted = limits.LimitRequest("agent", "@side/one", max_concurrent=5)

    def make_limit() -> None:
        with stores[1].begin() as tx:
            limits.save(tx, org_id, wanted)

    with ThreadPoolExecutor(1) as pool:
        with stores[0].begin() as tx:
            attempts.finish(tx, [attempts.Finish(task.id, task.fence, None)])
            tx.conn.execute(select(func.count()).select_from(Slot)).scalar_one()  # it has locked its row
            making = pool.submit(make_limit)
            threading.Event().wait(0.3)  # long enough for the other to have looked and to wait
        making.result(30)
    with stores[0].read() as conn:
        assert conn.execute(select(func.count()).select_from(Slot)).scalar_one() == 0


def _slots(store: Store) -> int:
    with store.read() as conn:
        return int(conn.execute(select(func.count()).select_from(Slot)).scalar_one())


def _while(
    stores: tuple[Store, Store], first: Callable[[Tx], object], second: Callable[[Tx], object]
) -> None:
    """Do the second in a transaction that is begun before the first one's is committed."""

    def work() -> None:
        with stores[1].begin() as tx:
            second(tx)

    with ThreadPoolExecutor(1) as pool:
        with stores[0].begin() as tx:
            first(tx)
            tx.conn.execute(select(func.count()).select_from(Slot)).scalar_one()  # what it does is done
            working = pool.submit(work)
            threading.Event().wait(0.3)  # long enough for the other to have looked, or to wait
        working.result(30)


@pytest.mark.parametrize("org", ["own", "*"])
@pytest.mark.parametrize("run_first", [True, False])
def test_a_limit_counts_a_run_that_is_accepted_meanwhile(
    stores: tuple[Store, Store], org: str, run_first: bool
) -> None:
    org_id = uuid7()
    with stores[0].begin() as tx:
        ref = agents.publish(tx, org_id, parse({"name": "@side/one", "kind": "python"})).ref
    wanted = limits.LimitRequest("agent", "@side/one", max_concurrent=5)

    def run(tx: Tx) -> None:
        submissions.submit(tx, [RunSpec(uuid7(), org_id, ref, "native", {})])

    def limit(tx: Tx) -> None:
        limits.save(tx, org_id if org == "own" else org, wanted)

    _while(stores, run if run_first else limit, limit if run_first else run)
    assert _slots(stores[0]) == 1


def test_an_agents_own_limit_counts_what_runs_already_and_what_is_accepted_meanwhile(
    stores: tuple[Store, Store],
) -> None:
    org_id = uuid7()

    def publish(tx: Tx) -> AgentRecord:
        content = {"name": "@side/one", "kind": "declared", "instructions": "hi", "max_concurrent": 5}
        return agents.publish(tx, org_id, parse(content | {"version": "2.0.0"}))

    def run(tx: Tx) -> None:
        submissions.submit(tx, [RunSpec(uuid7(), org_id, ref, "native", {})])

    with stores[0].begin() as tx:
        content = {"name": "@side/one", "kind": "declared", "instructions": "hi"}
        ref = agents.publish(tx, org_id, parse(content)).ref
        run(tx)
    _while(stores, run, publish)
    assert _slots(stores[0]) == 2


def test_a_limit_counts_a_run_that_is_admitted_meanwhile(stores: tuple[Store, Store]) -> None:
    org_id = uuid7()
    with stores[0].begin() as tx:
        ref = agents.publish(tx, org_id, parse({"name": "@side/one", "kind": "python"})).ref
        rule = limits.save(tx, org_id, limits.LimitRequest("agent", "@side/one", max_concurrent=0))
        submissions.submit(tx, [RunSpec(uuid7(), org_id, ref, "native", {})])
    with stores[0].begin() as tx:
        limits.remove(tx, org_id, rule.id)
    freed = tx.freed
    wanted = limits.LimitRequest("organisation", max_concurrent=5)
    _while(stores, lambda tx: admissions.admit(tx, freed), lambda tx: limits.save(tx, org_id, wanted))
    assert _slots(stores[0]) == 1


def test_commands_of_two_apis_on_the_same_tasks_in_another_order_wait_for_each_other(
    stores: tuple[Store, Store],
) -> None:
    org_id = uuid7()
    task_ids = [uuid7(), uuid7()]
    with stores[0].begin() as tx:
        ref = agents.publish(tx, org_id, parse({"name": "@side/one", "kind": "python"})).ref
        submissions.submit(tx, [RunSpec(task_id, org_id, ref, "native", {}) for task_id in task_ids])
    has_locked = [threading.Event(), threading.Event()]
    tries = [0, 0]

    def cancel_both(number: int) -> list[object]:
        """Cancel both tasks by two commands that share a transaction; the first waits for the other api to lock."""
        first, second = task_ids if number == 0 else reversed(task_ids)
        writer = GroupCommit(stores[number])
        go_on = threading.Event()

        def lock(tx: Tx) -> object:
            tries[number] += 1
            answer = cancellations.cancel_tasks(tx, [first], "by a test")[0]
            has_locked[number].set()
            has_locked[1 - number].wait(5 if tx.db.is_postgres else 0.1)  # SQLite has one writer
            return answer

        held_up = writer.submit(_each, lambda tx: go_on.wait(50))
        answers = [
            writer.submit(_each, lock),
            writer.submit(_each, lambda tx: cancellations.cancel_tasks(tx, [second], "by a test")[0]),
        ]
        go_on.set()
        held_up.result(30)
        found = [answer.exception(30) or answer.result(30) for answer in answers]
        writer.close()
        return found

    with ThreadPoolExecutor(2) as pool:
        found = [answer for its in pool.map(cancel_both, range(2)) for answer in its]
    assert sum(isinstance(one, Head) for one in found) == 2
    assert sum(isinstance(one, IllegalTransition) for one in found) == 2
    assert tries == [1, 1], "the database has ended one for a deadlock"
