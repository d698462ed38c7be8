"""What two processes write at the same time, each by a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec
from runyard_common.runs.service import attempts, claims, limits, submissions
from runyard_common.tables.query import Slot
from runyard_common.values.errors import TooManyRequests
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
        together.wait(20)
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
