"""The roll-up of runs over time, on both databases: each run once, also with two schedulers and late commits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from runyard_common.database.transaction import Store, Tx
from runyard_common.files import open_files
from runyard_common.identity.queries import identity
from runyard_common.runs.queries.transitions import Change, move
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.statistics import service
from runyard_common.statistics.queries import samples, sums
from runyard_common.statistics.queries.sums import INSTALLATION
from runyard_common.statistics.rules import (
    DAY,
    HOUR,
    MINUTE,
    OTHERS,
    RUN,
    STEPS,
    Sums,
    added,
    buckets_of,
    parts,
)
from runyard_common.tables.query import Agent, QueueSample, Statistic, Task, Turn
from runyard_common.values.ids import first_uuid7, uuid7
from runyard_scheduler.duties import RollUp
from tests.clockwork import Clockwork
from tests.pruning import count, prune

#: A minute's beginning: ids are made by the real clock, so the time of these tests is near it.
NOW = time.time() // HOUR * HOUR + 600


@pytest.fixture
def clock(migrated: str) -> Iterator[Clockwork]:
    with Clockwork(migrated, NOW) as clock:
        clock.publish()
        yield clock


def ended(
    clock: Clockwork,
    *,
    org: str = "",
    event: Event = Event.FINISH,
    waited: float = 1.0,
    ran: float = 2.0,
    **row: Any,
) -> str:
    """A run that ends now; its id."""
    org = org or clock.org
    with clock.begin() as tx:
        agent = tx.conn.execute(select(Agent.id)).scalars().first()
        began = clock.now - ran
        id_ = first_uuid7(began - waited)[:18] + uuid7()[18:]
        task = {
            "id": id_, "org_id": org, "agent_id": agent, "version_id": "v", "agent_name": "@test/echo",
            "version": "1", "status": "running", "front": "native", "lane": org, "priority": 0, "attempt": 1,
            "claim_token": "t", "lease_owner": "w", "last_seq": 1, "created_at": began - waited,
            "updated_at": began, "started_at": began,
        }  # fmt: skip
        tx.conn.execute(insert(Task.__table__), [task | row])
        values = {"error": {"code": "too_late", "cause": "agent"}} if event is Event.FAIL else {}
        (answer,) = move(tx, [Change(id_, event, values=values)])
        assert not isinstance(answer, Exception), answer
    return id_


def turn(clock: Clockwork, task_id: str, **row: Any) -> None:
    used = {"input_tokens": 10, "output_tokens": 2, "cached_tokens": 1, "cost_micros": 50, "model": "m"}
    given = {"task_id": task_id, "key": uuid7(), "org_id": clock.org, "agent_id": "a", "at": clock.now}
    clock.transact(lambda tx: tx.conn.execute(insert(Turn.__table__), [given | used | row]))


def roll_up(clock: Clockwork) -> None:
    """Until there is nothing more to do."""
    duty = RollUp(clock.store)
    while True:
        duty.run_once()
        if duty.due_in is not None and duty.due_in > 1:
            return


def total(clock: Clockwork, org: str = "", step: int = MINUTE) -> Sums:
    """All that is summed in spans of a length."""
    with clock.store.read() as conn:
        return +added(sums.series(conn, org or clock.org, step, 0, int(clock.now) + DAY).values())


def test_every_length_of_span_has_the_same_sums_and_the_installation_those_of_all(clock: Clockwork) -> None:
    other = clock.transact(lambda tx: identity.insert_organisation(tx, "other"))
    for n in range(4):
        ended(clock, event=(Event.FINISH, Event.FAIL, Event.CANCEL, Event.FINISH)[n], ran=0.5 * 2**n)
        clock.now += 45
    ended(clock, org=other, end_user_id="eu", key_id="k")
    turn(clock, ended(clock, key_id="k"), key_id="k")
    roll_up(clock)
    mine = total(clock)
    assert {name: mine[name] for name in ("submitted", "completed", "failed", "stopped", "turns", "cost_micros")} == {
        "submitted": 5, "completed": 3, "failed": 1, "stopped": 1, "turns": 1, "cost_micros": 50,
    }  # fmt: skip
    assert parts(mine, "failure") == {"agent/too_late": 1}
    assert sum(buckets_of(mine, RUN).values()) == 5
    for step in STEPS:
        assert total(clock, step=step) == mine
        assert total(clock, INSTALLATION, step) == mine + total(clock, other, step)
    with clock.store.read() as conn:
        by_key = sums.groups(conn, clock.org, "key", DAY, 0, int(NOW) + DAY, 10)
        by_organisation = sums.groups(conn, INSTALLATION, "organisation", DAY, 0, int(NOW) + DAY, 10)
    assert [(group.id, group.sums["completed"], group.sums["input_tokens"]) for group in by_key] == [
        ("k", 1, 10)
    ]
    assert [(group.name, group.sums["submitted"]) for group in by_organisation] == [
        ("tested", 5),
        ("other", 1),
    ]


def test_what_is_committed_late_is_counted_and_nothing_twice(clock: Clockwork) -> None:
    for late in (20.0, 2 * MINUTE, 50 * MINUTE):
        ended(clock)
        roll_up(clock)
        begun, clock.now = clock.now, clock.now + late
        roll_up(clock)
        clock.now = begun  # a transaction that began then commits only now
        ended(clock)
        clock.now = begun + late
        roll_up(clock)
        clock.now = begun + 2 * HOUR
        roll_up(clock)
        roll_up(clock)
    assert total(clock)["completed"] == total(clock, step=DAY)["completed"] == 6
    assert total(clock)["submitted"] == 6


class _Overtaken(Store):
    """A store whose next write transaction begins after another scheduler has rolled up."""

    def __init__(self, clock: Clockwork) -> None:
        super().__init__(clock.db)
        self._clock = clock

    @contextmanager
    def begin(self, *given: Any, **options: Any) -> Iterator[Tx]:
        service.roll_up(self._clock.store)
        with super().begin(*given, **options) as tx:
            yield tx


def test_two_schedulers_do_not_count_twice(clock: Clockwork) -> None:
    for _ in range(3):
        ended(clock)
        assert service.roll_up(_Overtaken(clock)).changed == 0
    assert total(clock)["completed"] == total(clock, step=HOUR)["completed"] == 3
    ended(clock)
    roll_up(clock)
    assert total(clock)["completed"] == 4


def test_a_long_outage_of_the_scheduler_leaves_no_gap(clock: Clockwork) -> None:
    ended(clock)
    roll_up(clock)
    for _ in range(3):
        clock.now += 40 * MINUTE
        ended(clock)
    clock.now += 3 * DAY
    roll_up(clock)
    assert total(clock, step=DAY)["completed"] == 4


def test_what_is_pruned_stays_counted_and_old_minutes_go(clock: Clockwork, tmp_path: Path) -> None:
    ended(clock)
    roll_up(clock)
    assert prune(clock, open_files(str(tmp_path / "files")), 31) > 0
    roll_up(clock)
    assert (total(clock)["completed"], total(clock, step=600)["completed"]) == (0, 0)
    assert total(clock, step=HOUR)["completed"] == total(clock, step=DAY)["completed"] == 1
    clock.now += 801 * DAY
    roll_up(clock)
    with clock.store.read() as conn:
        assert not conn.execute(select(Statistic.at).where(Statistic.at < NOW + DAY)).all()


def test_too_many_end_users_of_a_minute_are_summed_as_others(
    clock: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST", 3)
    for n in range(5):
        ended(clock, end_user_id=f"u{n}")
    roll_up(clock)
    ended(clock, end_user_id="u4")
    roll_up(clock)
    with clock.store.read() as conn:
        found = sums.groups(conn, clock.org, "end_user", MINUTE, 0, int(NOW) + DAY, 10)
    assert Counter({group.id: group.sums["completed"] for group in found}) == {
        "u4": 2,
        "u0": 1,
        "u1": 1,
        OTHERS: 2,
    }


def test_the_queue_is_sampled_once_a_minute_by_status_and_by_what_keeps_runs(clock: Clockwork) -> None:
    waiting = [ended(clock) for _ in range(4)]

    def unfinish(tx: Tx) -> None:
        going = {"finished_at": None, "status": "queued"}
        by = [BlockedBy.limit(f"{clock.org}|agent:@test/echo"), BlockedBy.child("c1"), BlockedBy.child("c2")]
        for id_, blocked_by in zip(waiting, by, strict=False):
            tx.conn.execute(update(Task).where(Task.id == id_).values(going | {"blocked_by": blocked_by}))

    clock.transact(unfinish)
    for _ in range(3):
        service.roll_up(clock.store)
    clock.now += 5 * MINUTE
    clock.transact(lambda tx: tx.conn.execute(update(Task).values(status="completed", finished_at=tx.now)))
    service.roll_up(clock.store)
    with clock.store.read() as conn:
        found = samples.series(conn, clock.org, ("status", "blocker"), HOUR, 0, int(NOW) + DAY)
        drawn = samples.series(conn, INSTALLATION, ("samples",), HOUR, 0, int(NOW) + DAY)
    assert {(one.kind, one.name, one.total, one.peak) for one in found} == {
        ("status", "queued", 3, 3), ("blocker", "agent:@test/echo", 1, 1), ("blocker", "child", 2, 2),
    }  # fmt: skip
    assert [one.total for one in drawn] == [2]
    assert count(clock, QueueSample) > 0
