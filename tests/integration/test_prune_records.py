"""Prune of what belongs to no task, on both databases: audit log, sign-ins, occurrences; and how it finds rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from runyard_common.files import FileStore, open_files
from runyard_common.identity.queries import identity, logins
from runyard_common.identity.rules.retention import DAY_S
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity as keys
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.runs.queries import prune as rows
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.service.limits import release_leaked
from runyard_common.schedules.rules.stored_schedule import ScheduleState
from runyard_common.schedules.service import schedules
from runyard_common.tables.query import (
    ApiKey,
    Audit,
    Fire,
    Idempotency,
    Invitation,
    Login,
    Schedule,
    Slot,
    Start,
    TaskEvent,
)
from tests.clockwork import NOON, Clockwork
from tests.pruning import count, left, prune, run, settings

HASH = "ab" * 32
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return open_files(str(tmp_path / "files"))


def test_slots_that_earlier_versions_left_go_and_free_their_limit(clock: Clockwork, files: FileStore) -> None:
    key = f"{clock.org}|organisation:{clock.org}"
    ended, pending = run(clock), run(clock, None)
    with clock.begin() as tx:
        leaked = [{"limit_key": key, "task_id": id_, "at": 0.0} for id_ in (ended, "gone", pending)]
        tx.conn.execute(insert(Slot), leaked)
    with clock.begin() as tx:
        assert release_leaked(tx, 1) == 1
        assert tx.freed == {BlockedBy.limit(key)}
    prune(clock, files)
    with clock.begin() as tx:
        assert list(tx.conn.execute(select(Slot.task_id)).scalars()) == [pending]


def test_the_rest_goes_too_when_its_time_has_come(clock: Clockwork, files: FileStore) -> None:
    once = clock.schedule(60)
    skipping = clock.schedule("*/10 * * * *", overlap="skip", end_at=NOON + 1300)
    clock.tick("12:01")
    clock.tick("12:10")
    clock.tick("12:20")
    with clock.begin() as tx:
        tx.conn.execute(Start.__table__.insert(), {"limit_key": "k", "at": tx.now, "task_id": "t"})
        row = {"org_id": clock.org, "key": "k", "body_hash": "h", "owner": "o", "created_at": tx.now}
        tx.conn.execute(Idempotency.__table__.insert(), row | {"expires_at": tx.now + 60})
    assert clock.stored(once).state is ScheduleState.FINISHED
    assert count(clock, Fire) == 3
    prune(clock, files, 2)
    assert (count(clock, Start), count(clock, Idempotency), count(clock, Fire)) == (0, 0, 3)
    prune(clock, files, 29)
    assert (count(clock, Schedule), count(clock, Fire)) == (0, 0)
    assert skipping.id not in left(clock)


def test_the_audit_log_and_the_keys_it_names_are_kept_four_hundred_days(
    clock: Clockwork, files: FileStore
) -> None:
    settings(clock, retention={"completed": 1, "usage": 1, "audit": 1})
    org = clock.org
    with clock.begin() as tx:
        in_use, revoked, expired = (
            keys.create_key(tx, org, KeyRequest(name, Role.MEMBER), "system", Role.OWNER).id
            for name in ("in use", "revoked", "expired")
        )
        keys.revoke_key(tx, org, revoked, "system")
        change = ApiKey.__table__.update().where(ApiKey.id == expired)
        tx.conn.execute(change.values(expires_at=clock.now + DAY_S))
    entries = count(clock, Audit)
    assert entries > 0
    prune(clock, files, 399.9)
    assert (count(clock, Audit), count(clock, ApiKey)) == (entries, 3)
    prune(clock, files, 0.2)
    assert (count(clock, Audit), count(clock, ApiKey)) == (0, 2)
    prune(clock, files, 1)
    with clock.store.read() as conn:
        assert list(conn.execute(select(ApiKey.id)).scalars()) == [in_use]


def test_the_operator_may_keep_the_audit_log_for_fewer_days_and_it_goes_in_batches(
    clock: Clockwork, files: FileStore
) -> None:
    with clock.begin() as tx:
        for number in range(25):
            identity.audit(tx, clock.org, "system", "key.create", str(number))
    entries = count(clock, Audit)
    prune(clock, files, 29.9, audit_days=30.0, batch=10)
    assert count(clock, Audit) == entries
    clock.transact(lambda tx: identity.audit(tx, clock.org, "system", "key.create", "young"))
    prune(clock, files, 0.2, audit_days=30.0, batch=10)
    assert count(clock, Audit) == 1


def test_sign_ins_and_invitations_go_when_they_expire(clock: Clockwork, files: FileStore) -> None:
    with clock.begin() as tx:
        for number, seconds in enumerate((3600.0, 5 * DAY_S)):
            until = clock.now + seconds
            logins.add(tx, logins.LoginRow(f"t{number}", "u", "c", tx.now, until, None, None, None, None))
            tx.conn.execute(insert(Invitation), {
                "id": f"i{number}", "org_id": clock.org, "email": "a@b.c", "role": "member", "token_hash": f"h{number}",
                "created_by": "system", "created_at": clock.now, "expires_at": until,
            })  # fmt: skip
    prune(clock, files)
    assert (count(clock, Login), count(clock, Invitation)) == (2, 2)
    prune(clock, files, 1)
    assert (count(clock, Login), count(clock, Invitation)) == (1, 1)


def test_a_fire_goes_with_its_task_and_its_end_has_counted(clock: Clockwork, files: FileStore) -> None:
    schedule = clock.schedule("*/10 * * * *", pause_after_failures=1)
    clock.tick("12:10")
    clock.store.after_commit = None  # the process that ended the run died before it could count it
    clock.end(clock.tasks(schedule)[0], Event.FAIL)
    prune(clock, files, 31)
    assert clock.fires(schedule) == []
    after = clock.stored(schedule)
    assert (after.state, after.failures) == (ScheduleState.PAUSED, 1)
    assert clock.transact(lambda tx: schedules.get(tx, clock.org, schedule.id)).paused_reason


def test_what_there_is_to_prune_is_found_by_an_index(clock: Clockwork, migrated: str) -> None:
    postgres = clock.db.is_postgres
    with clock.db.begin() as conn:
        if postgres:
            conn.execute(text("SET LOCAL enable_seqscan = off"))
        query = rows._ended(clock.org, Status.FAILED, NOON, 10).compile(
            conn, compile_kwargs={"literal_binds": True}
        )
        plan = str(conn.exec_driver_sql(f"EXPLAIN {'' if postgres else 'QUERY PLAN '}{query}").all())
        assert "ix_tasks_finished" in plan
        assert "Seq Scan on tasks" not in plan
        assert "SCAN tasks" not in plan


@pytest.mark.parametrize("migrated", [POSTGRES], indirect=True)
def test_tables_partitioned_by_ranges_of_ids_are_pruned_too(clock: Clockwork, files: FileStore) -> None:
    old = run(clock)
    with clock.db.begin() as conn:
        for statement in (
            "CREATE TABLE parted (LIKE events INCLUDING ALL) PARTITION BY RANGE (task_id)",
            "CREATE TABLE parted_old PARTITION OF parted FOR VALUES FROM ('0') TO ('7')",
            "CREATE TABLE parted_new PARTITION OF parted FOR VALUES FROM ('7') TO ('g')",
            "INSERT INTO parted SELECT * FROM events",
            "ALTER TABLE events RENAME TO whole",
            "ALTER TABLE parted RENAME TO events",
        ):
            conn.execute(text(statement))
    try:
        clock.now += 31 * DAY_S
        new = run(clock)
        with clock.db.begin() as conn:
            plan = str(conn.exec_driver_sql(f"EXPLAIN DELETE FROM events WHERE task_id IN ('{old}')").all())
            assert "parted_old" in plan
            assert "parted_new" not in plan
        prune(clock, files)
        assert left(clock) == {new}
        assert count(clock, TaskEvent) == len(clock.log(new)) == 3
        with clock.db.begin() as conn:  # a whole partition dropped by the operator disturbs no reader
            conn.execute(text("DROP TABLE parted_new"))
        prune(clock, files, 31)
        assert left(clock) == set()
    finally:
        with clock.db.begin() as conn:
            conn.execute(text("DROP TABLE events"))
            conn.execute(text("ALTER TABLE whole RENAME TO events"))
