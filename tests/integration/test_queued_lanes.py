"""Many organisations queued behind one limit of the operator: each is let through in turn, at a bounded cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store, Tx
from runyard_common.runs.queries import lanes, limits, workers
from runyard_common.runs.rules.admission import Kind, Rule
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.service import admissions, attempts, claims, submissions
from runyard_common.tables.query import Task
from runyard_common.values.ids import uuid7
from tests import databases
from tests.sqlite_work import steps

WORKER, AGENT = "worker", "@test/noop"
SHARED = BlockedBy.limit(f"*|agent:{AGENT}")
MANY = 120


class Queue:
    """Runs of many organisations that a limit of the whole installation keeps queued, and a worker."""

    def __init__(self, db: Database, slots: int = 2) -> None:
        self.store = Store(db)
        org = uuid7()
        with self.store.begin() as tx:
            ref = agents.publish(tx, org, parse({"name": AGENT, "kind": "python"}), shared=True).ref
            workers.enlist(tx, WORKER, "test", 1, 1000, 1e9)
            self.bound(tx, slots)
            submissions.submit(tx, [spec := RunSpec(uuid7(), org, ref, "native", {"args": {}})])
            self._row = dict(tx.conn.execute(select(*Task.__table__.c)).one()._mapping)
        self.end(self.claim())
        assert self._row["id"] == spec.task_id

    def bound(self, tx: Tx, slots: int) -> None:
        """Set the operator's limit."""
        limits.save(tx, Rule("shared", "*", Kind.AGENT, AGENT, slots))

    def add(self, names: list[str], each: int = 1, **values: object) -> list[str]:
        """So many more queued runs of each of these organisations; their ids."""
        row = self._row | {"status": "queued", "blocked_by": SHARED} | values
        rows = [row | {"id": uuid7(), "lane": name, "org_id": name} for name in names for _ in range(each)]
        with self.store.begin() as tx:
            tx.conn.execute(insert(Task.__table__), rows)
        return [one["id"] for one in rows]

    def weigh(self, **weights: float) -> None:
        with self.store.begin() as tx:
            for name, weight in weights.items():
                lanes.weigh(tx, name.replace("_", "-"), weight)

    def admit(self, *blockers: BlockedBy) -> int:
        with self.store.begin() as tx:
            return admissions.admit(tx, blockers or [SHARED])

    def claim(self) -> list[claims.Claimed]:
        with self.store.begin() as tx:
            (batch,) = claims.claim(tx, [claims.Claim(WORKER, 1000)])
        assert isinstance(batch, claims.Batch)
        return batch.claimed

    def end(self, claimed: list[claims.Claimed]) -> None:
        """End these runs, and admit what that lets through, as after a commit."""
        with self.store.begin() as tx:
            ends = [attempts.Finish(one.task.id, one.task.fence, None) for one in claimed]
            attempts.finish(tx, ends)
        freed = tx.freed
        while freed:
            with self.store.begin() as tx:
                admissions.admit(tx, freed)
            freed = tx.freed

    def served(self, starts: int) -> list[str]:
        """The organisations of the next so many starts, in order: run after run is claimed and ends."""
        order: list[str] = []
        self.admit()
        while len(order) < starts:
            claimed = self.claim()
            assert claimed, "something starts whenever something ended"
            order += [one.task.org_id for one in claimed]
            self.end(claimed)
        return order


def _names(count: int) -> list[str]:
    return [f"org-{number:05}" for number in range(count)]


@pytest.fixture
def queue(database_url: str) -> Iterator[Queue]:
    db = databases.opened(database_url)
    yield Queue(db)
    db.close()


def test_each_of_many_organisations_starts_once_before_any_starts_twice(queue: Queue) -> None:
    names = _names(MANY)
    queue.add(names, 2)
    order = queue.served(2 * MANY)
    assert sorted(order[:MANY]) == names
    assert sorted(order[MANY:]) == names


def test_weights_are_shares_of_the_limit(queue: Queue) -> None:
    names = _names(20)
    queue.weigh(**{names[0]: 5.0, names[1]: 0.5, names[2]: 1.5})
    queue.add(names, 60)
    rounds = 6
    count = Counter(queue.served(rounds * 24))
    assert abs(count[names[0]] - 5 * rounds) <= 5
    assert abs(count[names[1]] - rounds / 2) <= 1
    assert abs(count[names[2]] - 1.5 * rounds) <= 2
    assert {count[name] for name in names[3:]} <= {rounds - 1, rounds, rounds + 1}


def test_newcomers_do_not_overtake_who_waits(queue: Queue) -> None:
    names = _names(MANY)
    queue.add(names[1:], 20)
    order: list[str] = []
    while names[-1] not in order:
        order += queue.served(2)
        queue.add([f"a-new-{len(order)}"])  # by name it is before all others
    assert len(order) <= MANY + 2


def test_a_newcomer_waits_one_round_at_most(queue: Queue) -> None:
    names = _names(MANY)
    queue.add(names[1:], 20)
    queue.served(31)
    queue.add(names[:1])
    order = queue.served(MANY + 2)
    assert order.count(names[0]) == 1
    assert max(Counter(order).values()) <= 2


def test_an_organisation_alone_for_long_owes_nothing(queue: Queue) -> None:
    queue.add(["org-a"], 40)
    assert queue.served(20) == ["org-a"] * 20
    queue.add(["org-b"], 20)
    assert Counter(queue.served(22)[2:]) == {"org-a": 10, "org-b": 10}  # two were let through before


def test_runs_that_were_under_way_go_first_wherever_they_are(queue: Queue) -> None:
    names = _names(MANY)
    queue.add(names, 2)
    queue.served(10)
    resumed = names[3::40]
    queue.add(resumed, resume=0)
    ready = len(queue.claim())  # these were admitted before
    assert ready <= 2
    queue.end([])
    with queue.store.begin() as tx:
        queue.bound(tx, 2 + len(resumed))
    queue.admit()
    assert sorted(one.task.org_id for one in queue.claim()) == resumed


def test_runs_that_another_limit_keeps_cost_their_organisation_no_turn(queue: Queue) -> None:
    names = _names(3)
    with queue.store.begin() as tx:
        limits.save(tx, Rule("own", names[0], Kind.END_USER, "*", 0))
    queue.add(names[:1], 30, end_user_id="eu_1")
    queue.add(names, 10)
    count = Counter(queue.served(12))
    assert count == dict.fromkeys(names, 4)


def test_a_limit_that_is_full_costs_no_look_at_what_it_keeps(queue: Queue) -> None:
    queue.add(_names(5), 2)
    assert queue.admit() == 2
    assert queue.admit() == 0


def test_everything_is_let_through_when_the_limit_goes(queue: Queue) -> None:
    queue.add(_names(MANY), 2)
    with queue.store.begin() as tx:
        limits.remove(tx, "*", "shared")
        tx.freed.add(SHARED)
    queue.end(queue.claim())
    freed = {SHARED}
    while freed:
        with queue.store.begin() as tx:
            admissions.admit(tx, freed)
        freed = tx.freed
    claimed = 0
    while batch := queue.claim():  # a claim may take fewer than there are
        claimed += len(batch)
    assert claimed == 2 * MANY


def test_organisations_with_the_least_weights_are_served_too(queue: Queue) -> None:
    names = _names(5)
    queue.weigh(**dict.fromkeys(names, 0.001))
    queue.add(names, 2)
    assert set(Counter(queue.served(10)).values()) == {2}


def test_an_admission_costs_the_same_beside_a_hundred_and_beside_thousands(tmp_path: Path) -> None:
    work = {}
    for many in (100, 4000):
        db = databases.opened(f"sqlite:///{tmp_path / str(many)}.db")
        queue = Queue(db)
        queue.add(_names(many), 3)
        queue.served(20)
        claimed = queue.claim()
        work[many] = steps(db, lambda: queue.end(claimed))  # noqa: B023
        db.close()
    assert work[4000] < 1.2 * work[100], work
