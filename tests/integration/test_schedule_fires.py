"""Schedules in the store, on both databases: what fires, once, with whose agent, and what is left when it cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from runyard_common.agents.queries import agents as agent_rows
from runyard_common.agents.service import agents
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.schedules.rules.stored_schedule import ScheduleState
from runyard_common.schedules.service import schedules
from runyard_common.tables.query import Organisation, Schedule, Session
from runyard_common.values.errors import Conflict, NotFound
from tests.clockwork import NOON, Clockwork, at


def test_every_minute_fires_once_however_many_schedulers_look(clock: Clockwork) -> None:
    schedule = clock.schedule("* * * * *", overlap="allow")
    for second in range(0, 181, 20):
        clock.tick(NOON + second)
    assert clock.fired(schedule) == ["12:01", "12:02", "12:03"]
    (first, *_) = clock.tasks(schedule)
    assert (first.org_id, first.front, first.schedule_id) == (clock.org, "native", schedule.id)
    assert (first.created_by, first.key_id) == ("key:k1", "k1")
    assert first.input == {"message": "tick", "due_at": at("12:01")}
    assert clock.stored(schedule).last_task_id == clock.tasks(schedule)[-1].id


def test_a_due_time_whose_row_is_there_does_not_fire_again(clock: Clockwork) -> None:
    schedule = clock.schedule("*/5 * * * *", overlap="allow")
    clock.tick("12:05")
    again = {"last_due_at": None, "next_due_at": at("12:05"), "wake_at": at("12:05")}
    clock.transact(lambda tx: clock_back(tx, schedule.id, again))
    clock.tick("12:05:30")
    assert clock.fired(schedule) == ["12:05"]
    assert clock.stored(schedule).next_due_at == at("12:10")


def clock_back(tx: Any, schedule_id: str, values: dict[str, Any]) -> None:
    tx.conn.execute(Schedule.__table__.update().where(Schedule.id == schedule_id).values(**values))


def test_a_delay_a_date_and_the_last_of_a_count_finish_their_schedules(clock: Clockwork) -> None:
    delay = clock.schedule(90.5)
    date = clock.schedule("2026-06-01T14:30", timezone="Europe/Berlin")
    counted = clock.schedule("*/10 * * * *", max_fires=2, overlap="allow")
    ended = clock.schedule("*/10 * * * *", end_at="2026-06-01T12:20", overlap="allow")
    assert (delay.next_due_at, date.next_due_at) == (NOON + 90.5, at("12:30"))
    clock.tick(NOON + 90.4)
    assert clock.fired(delay) == []
    for minute in range(2, 60):
        clock.tick(NOON + 60 * minute)
    assert clock.fired(delay) == ["12:01"]
    assert clock.fired(date) == ["12:30"]
    assert clock.fired(counted) == clock.fired(ended) == ["12:10", "12:20"]
    for schedule in (delay, date, counted, ended):
        after = clock.stored(schedule)
        assert (after.state, after.enabled, after.next_due_at) == (ScheduleState.FINISHED, False, None)


@pytest.mark.parametrize(
    ("policy", "fired", "missed"),
    [
        ("none", [], 1),
        ("last", ["13:00"], 1),
        ("all", ["12:10", "12:20", "12:30", "12:40", "12:50", "13:00"], 0),
    ],
)
def test_after_an_hours_outage_exactly_the_promised_times_fire(
    clock: Clockwork, policy: str, fired: list[str], missed: int
) -> None:
    schedule = clock.schedule("*/10 * * * *", catch_up=policy, overlap="allow")
    clock.tick("13:05")
    clock.tick("13:06")
    assert clock.fired(schedule) == fired
    assert [o for _, o in clock.outcomes(schedule)].count("missed") == missed
    clock.tick("13:10")
    assert clock.fired(schedule) == [*fired, "13:10"]


def test_the_window_bounds_how_much_is_caught_up(clock: Clockwork) -> None:
    schedule = clock.schedule(
        "*/10 * * * *",
        catch_up="all",
        catch_up_window_s=1500,
    )
    clock.tick("13:05")
    assert clock.fired(schedule) == ["12:40", "12:50", "13:00"]
    assert clock.outcomes(schedule)[0] == ("12:10", "missed")
    assert "3 due times passed" in (clock.fires(schedule)[0].reason or "")


def test_a_long_outage_of_a_busy_schedule_is_caught_up_in_several_transactions(clock: Clockwork) -> None:
    schedule = clock.schedule("* * * * *", catch_up="all", overlap="allow")
    clock.tick("13:00")
    assert len(clock.fired(schedule)) == 60
    assert clock.tick("13:00:20") == 0


def test_a_clock_set_back_fires_nothing_again_and_one_set_forward_is_an_outage(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", catch_up="last", overlap="allow")
    clock.tick("12:20")
    for minute in range(0, 30, 5):  # an hour back, and on from there
        clock.tick(at("11:20") + 60 * minute)
    assert clock.fired(schedule) == ["12:20"]
    clock.tick("12:30")
    clock.tick("14:35")
    assert clock.fired(schedule) == ["12:20", "12:30", "14:30"]


def test_skip_leaves_out_what_overlaps_and_records_it(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", overlap="skip")
    clock.tick("12:10")
    clock.tick("12:20")
    assert clock.outcomes(schedule) == [("12:10", "fired"), ("12:20", "skipped")]
    assert clock.fires(schedule)[1].reason == "an earlier run has not ended"
    clock.end(clock.tasks(schedule)[0])
    clock.tick("12:30")
    assert clock.outcomes(schedule) == [("12:10", "completed"), ("12:20", "skipped"), ("12:30", "fired")]


def test_a_skipped_time_does_not_count_as_a_fire(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", overlap="skip", max_fires=2)
    for text in ("12:10", "12:20", "12:30"):
        clock.tick(text)
    clock.end(clock.tasks(schedule)[0])
    clock.tick("12:40")
    assert clock.fired(schedule) == ["12:10", "12:40"]
    assert clock.stored(schedule).state is ScheduleState.FINISHED


def test_queue_starts_them_one_behind_the_other(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", overlap="queue")
    for text in ("12:10", "12:20", "12:30"):
        clock.tick(text)
    first, second, third = clock.tasks(schedule)
    assert [t.status for t in (first, second, third)] == [Status.PENDING, Status.QUEUED, Status.QUEUED]
    assert second.blocked_by == BlockedBy.schedule(schedule.id)
    clock.end(first)
    assert [t.status for t in clock.tasks(schedule)] == [Status.COMPLETED, Status.PENDING, Status.QUEUED]
    clock.end(second)
    assert clock.tasks(schedule)[2].status is Status.PENDING
    assert clock.log(third.id) == ["hold", "admit"]


def test_queue_holds_no_more_than_ten(clock: Clockwork) -> None:
    schedule = clock.schedule("* * * * *", overlap="queue", catch_up="all")
    clock.tick("12:13")
    outcomes = [outcome for _, outcome in clock.outcomes(schedule)]
    assert outcomes == ["fired"] * 11 + ["skipped"] * 2


def test_stop_running_stops_the_earlier_run_and_starts(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", overlap="stop_running")
    clock.tick("12:10")
    _tick_to_the_end(clock, "12:20")
    first, second = clock.tasks(schedule)
    assert (first.status, second.status) == (Status.STOPPED, Status.PENDING)
    assert first.error is not None
    assert first.error["message"] == "the next run of its schedule is due"
    assert clock.outcomes(schedule) == [("12:10", "stopped"), ("12:20", "fired")]


def test_a_limit_with_one_slot_gives_it_to_the_run_that_stops_the_other(clock: Clockwork) -> None:
    clock.publish("@test/single", max_concurrent=1)
    schedule = clock.schedule("*/10 * * * *", "@test/single", overlap="stop_running")
    clock.tick("12:10")
    _tick_to_the_end(clock, "12:20")
    assert [t.status for t in clock.tasks(schedule)] == [Status.STOPPED, Status.PENDING]


def _tick_to_the_end(clock: Clockwork, time: str) -> None:
    """Look again once what follows the stop is done: it may hold the schedule's row at the first look."""
    clock.tick(time)
    clock.settle()
    clock.tick()
    clock.settle()


def test_failures_in_a_row_pause_and_a_completed_run_starts_the_count_again(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", pause_after_failures=2)
    for index, event in enumerate([Event.FAIL, Event.FINISH, Event.FAIL, Event.CANCEL, Event.FAIL]):
        clock.tick(at("12:10") + 600 * index)
        assert clock.stored(schedule).state is ScheduleState.ACTIVE
        clock.end(clock.tasks(schedule)[-1], event)
    after = clock.stored(schedule)
    assert (after.state, after.paused_reason) == (ScheduleState.PAUSED, "2 runs in a row failed")
    clock.tick("14:00")
    assert len(clock.tasks(schedule)) == 5
    resumed = clock.transact(lambda tx: schedules.resume(tx, clock.org, schedule.id))
    assert (resumed.state, resumed.failures, resumed.next_due_at) == (
        ScheduleState.ACTIVE,
        0,
        at("14:10"),
    )


def test_an_end_that_was_not_counted_is_counted_when_the_next_time_comes(clock: Clockwork) -> None:
    """The process that ended the run died before it could."""
    schedule = clock.schedule("*/10 * * * *", pause_after_failures=1)
    clock.tick("12:10")
    clock.store.after_commit = None
    clock.end(clock.tasks(schedule)[0], Event.FAIL)
    assert clock.stored(schedule).failures == 0
    clock.tick("12:20")
    assert clock.outcomes(schedule) == [("12:10", "failed")]
    assert clock.stored(schedule).paused_reason == "its run failed"


def test_current_exact_tag_and_range_choose_the_version_when_it_fires(clock: Clockwork) -> None:
    clock.publish("@test/v", "1.0.0")
    rules = {None: "2.0.0", "1.0.0": "1.0.0", "^1": "1.5.0", "stable": "1.0.0"}
    with clock.begin() as tx:
        found = agents.resolve(tx.scope(clock.org), "@test/v")
        agent_rows.set_tag(tx, found.ref.agent_id, "stable", found.ref.version_id)
    made = {
        rule: clock.schedule(
            "*/10 * * * *", "@test/v", {"message": "x"} | ({"version": rule} if rule else {})
        )
        for rule in rules
    }
    for version in ("1.5.0", "2.0.0"):
        clock.publish("@test/v", version)
    clock.tick("12:10")
    assert {rule: clock.tasks(schedule)[0].version for rule, schedule in made.items()} == rules


def test_runs_continue_the_conversation_the_schedule_names(clock: Clockwork) -> None:
    named = clock.schedule("*/10 * * * *", run={"message": "x", "session_id": "standup"}, overlap="allow")
    single = clock.schedule("*/10 * * * *", overlap="allow")
    clock.tick("12:10")
    clock.tick("12:20")
    first, second = clock.tasks(named)
    assert first.session_id == second.session_id is not None
    assert second.status is Status.QUEUED  # one at a time in a conversation
    assert [t.session_id for t in clock.tasks(single)] == [None, None]
    with clock.store.read() as conn:
        assert conn.execute(select(Session.key)).scalars().all() == ["standup"]


def test_jitter_releases_a_run_after_its_due_time(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", jitter_s=300)
    release = schedule.wake_at
    assert schedule.next_due_at == at("12:10")
    assert release is not None
    assert at("12:10") < release < at("12:15")
    assert clock.tick(release - 0.01) == 0
    assert clock.tick(release) == 1
    assert clock.fires(schedule)[0].due_at == at("12:10")


def test_schedulers_at_once_fire_each_time_once(clock: Clockwork) -> None:
    made = [clock.schedule("* * * * *", overlap="allow", catch_up="all") for _ in range(40)]
    clock.now = at("12:15")
    schedulers = [clock.scheduler() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda scheduler: scheduler.run_once(), schedulers))
    left = sum(clock.scheduler().run_once() for _ in range(2))
    assert sum(counts) + left == 40 * 15
    expected = [f"12:{minute:02d}" for minute in range(1, 16)]
    assert all(clock.fired(schedule) == expected for schedule in made)


def test_a_look_and_a_claim_read_the_index_of_due_times_only(clock: Clockwork, migrated: str) -> None:
    clock.schedule("*/10 * * * *")
    explain = "EXPLAIN QUERY PLAN " if migrated.startswith("sqlite") else "EXPLAIN "
    with clock.db.begin() as conn:
        if not migrated.startswith("sqlite"):
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
            conn.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        for query in (
            "SELECT min(wake_at) FROM schedules WHERE wake_at IS NOT NULL",
            f"SELECT id FROM schedules WHERE wake_at <= {NOON} ORDER BY wake_at LIMIT 200",
        ):
            plan = str(conn.exec_driver_sql(explain + query).all())
            assert "ix_schedules_due" in plan
            assert "Sort" not in plan
            assert "TEMP B-TREE" not in plan


def test_an_organisation_has_as_many_schedules_as_it_may(clock: Clockwork) -> None:
    clock.with_rules(max_schedules=2)
    once = clock.schedule(60)
    clock.schedule("*/10 * * * *")
    with pytest.raises(Conflict, match="2 schedules") as refused:
        clock.schedule("*/10 * * * *")
    assert refused.value.code == "too_many_schedules"
    clock.tick("12:01")
    assert clock.stored(once).state is ScheduleState.FINISHED
    clock.schedule("*/10 * * * *")  # a finished one counts no more
    table = Organisation.__table__
    clock.transact(lambda tx: tx.conn.execute(table.update().values(settings={"max_schedules": 3})))
    clock.schedule("*/10 * * * *")
    with pytest.raises(Conflict):
        clock.schedule("*/10 * * * *")


def test_only_the_organisation_itself_reaches_its_schedules(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *")
    for work in (schedules.get, schedules.pause, schedules.resume, schedules.remove):
        with pytest.raises(NotFound):
            clock.transact(lambda tx: work(tx, "another", schedule.id))  # noqa: B023
