"""A claim beside thousands of organisations with work: fair to each, at a cost that follows from what it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import lanes, workers
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import submissions
from runyard_common.runs.service.claims import Batch, Claim, claim
from runyard_common.tables.query import Task, WorkerAgent
from runyard_common.values.ids import uuid7
from tests import databases
from tests.sqlite_work import steps

WORKER = "worker"


class Crowd:
    """Pending tasks of many organisations, and a worker."""

    def __init__(self, db: Database) -> None:
        self.store = Store(db)
        org = uuid7()
        with self.store.begin() as tx:
            ref = agents.publish(tx, org, parse({"name": "@test/noop", "kind": "python"}), shared=True).ref
            workers.enlist(tx, WORKER, "test", 1, 1000, 1e9)
            submissions.submit(tx, [spec := RunSpec(uuid7(), org, ref, "native", {"args": {}})])
            self._row = dict(tx.conn.execute(select(*Task.__table__.c)).one()._mapping)
            tx.conn.execute(Task.__table__.update().values(status="completed", finished_at=tx.now))
        assert self._row["id"] == spec.task_id

    def add(self, names: list[str], each: int) -> None:
        """So many more tasks of each of these lanes."""
        rows = [
            self._row | {"id": uuid7(), "lane": name, "org_id": name} for name in names for _ in range(each)
        ]
        with self.store.begin() as tx:
            tx.conn.execute(insert(Task), rows)

    def require(self, agent: str | None) -> None:
        """Set the agent that tasks added later require."""
        self._row["required_agent"] = agent

    def weigh(self, **weights: float) -> None:
        with self.store.begin() as tx:
            for lane, weight in weights.items():
                lanes.weigh(tx, lane, weight)

    def claim(self, slots: int, agents_: tuple[str, ...] | None = None, worker: str = WORKER) -> list[str]:
        """The lanes of the tasks that a claim takes."""
        with self.store.begin() as tx:
            (batch,) = claim(tx, [Claim(worker, slots, agents_)])
        assert isinstance(batch, Batch)
        return [one.task.lane for one in batch.claimed]


def _names(count: int) -> list[str]:
    return [f"org-{number:05}" for number in range(count)]


MANY = 3 * lanes.MOST


@pytest.fixture
def crowd(database_url: str) -> Iterator[Crowd]:
    db = databases.opened(database_url)
    yield Crowd(db)
    db.close()


def test_every_organisation_gets_one_start_before_any_gets_two(crowd: Crowd) -> None:
    crowd.add(_names(MANY), 3)
    claimed = [crowd.claim(50) for _ in range(MANY * 2 // 50)]
    rounds = Counter(lane for batch in claimed for lane in batch)
    assert sum(rounds.values()) == MANY * 2 // 50 * 50
    assert set(rounds.values()) <= {1, 2}
    first = [lane for batch in claimed for lane in batch][:MANY]
    assert sorted(first) == _names(MANY)


def test_weights_are_shares_among_many_too(crowd: Crowd) -> None:
    names = _names(MANY)
    crowd.add(names, 4)
    crowd.add(names[:2], 60)
    crowd.weigh(**{names[0]: 5.0, names[1]: 0.5})
    claimed = Counter(lane for _ in range(MANY // 20) for lane in crowd.claim(60))
    rounds = Counter(claimed.values()).most_common(1)[0][0]
    assert 5 * (rounds - 1) <= claimed[names[0]] <= 5 * (rounds + 1)
    assert abs(claimed[names[1]] - rounds / 2) <= 1
    assert {claimed[name] for name in names[2:]} <= {rounds - 1, rounds, rounds + 1}


def test_a_newcomer_waits_one_round_at_most(crowd: Crowd) -> None:
    names = _names(MANY)
    crowd.add(names[1:], 20)
    for _ in range(7):
        crowd.claim(50)
    crowd.add(names[:1], 1)  # the ring has passed its place
    order: list[str] = []
    while names[0] not in order:
        order += crowd.claim(50)
    assert max(Counter(order).values()) <= 2
    assert len(order) <= MANY + 50


def test_a_worker_finds_the_one_task_that_it_can_run_behind_all_others(crowd: Crowd) -> None:
    names = _names(MANY)
    crowd.require("@test/other@1.0.0")
    crowd.add(names[:-1], 2)
    crowd.require(None)
    crowd.add(names[-1:], 2)
    assert crowd.claim(10, ("@test/mine@1.0.0",)) == [names[-1]] * 2
    assert len(crowd.claim(10, ("@test/other@1.0.0",))) == 10


def test_a_worker_with_more_agents_than_a_statement_names_claims_their_runs_alone(crowd: Crowd) -> None:
    mine = tuple(f"@test/agent{number}@1.0.0" for number in range(workers.MANY_AGENTS + 1))
    for agent, lane in ((mine[-1], "mine"), ("@test/other@1.0.0", "other"), (None, "any")):
        crowd.require(agent)
        crowd.add([lane], 3)
    with crowd.store.begin() as tx:
        workers.enlist(tx, "many", "test", 1, 1000, 1e9, mine, mine)
    assert sorted(crowd.claim(10, mine, "many")) == ["any"] * 3 + ["mine"] * 3
    crowd.require(mine[0])
    crowd.add(["mine"], 2)  # an only lane, which has other work
    assert crowd.claim(1, mine, "many") == ["mine"]
    with crowd.store.begin() as tx:
        workers.forget(tx, ["many"])
    with crowd.store.read() as conn:
        assert conn.execute(select(WorkerAgent.agent)).all() == []


def test_all_work_is_claimed_however_many_slots(crowd: Crowd) -> None:
    crowd.add(_names(MANY), 2)
    found = 0
    while claimed := crowd.claim(MANY * 3):  # as many as one claim takes at most
        found += len(claimed)
    assert found == MANY * 2


def test_a_claim_costs_the_same_beside_a_hundred_and_beside_thousands(tmp_path: Path) -> None:
    work = {}
    for many in (100, 4000):
        db = databases.opened(f"sqlite:///{tmp_path / str(many)}.db")
        crowd = Crowd(db)
        crowd.add(_names(many), 1)
        crowd.claim(10)
        work[many] = steps(db, lambda: crowd.claim(10))  # noqa: B023
        db.close()
    assert work[4000] < 1.2 * work[100], work
