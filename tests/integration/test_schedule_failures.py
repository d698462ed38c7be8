"""Schedules whose runs cannot start, on both databases: failed runs that callers hear of, and pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from runyard_common.agents.queries import agents as agent_rows
from runyard_common.agents.service import agents
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.runs.queries import limits
from runyard_common.runs.rules.admission import Kind, Rule, Strategy
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import runs
from runyard_common.schedules.rules.stored_schedule import ScheduleState
from runyard_common.schedules.service import fires
from runyard_common.tables.query import Agent, Delivery, Endpoint, Organisation, Schedule
from tests.clockwork import NOON, Clockwork, at
from tests.waiting import wait_until


def clock_back(tx: Any, schedule_id: str, values: dict[str, Any]) -> None:
    tx.conn.execute(Schedule.__table__.update().where(Schedule.id == schedule_id).values(**values))


SECRETIVE = {
    "message": "x",
    "callback": {"url": "http://127.0.0.1:8099/cb", "headers": {"x-token": "s3cret-header"}},
    "mcp_servers": [
        {
            "serverName": "m",
            "serverUrl": "http://127.0.0.1:8099/",
            "auth": {"type": "bearer", "token": "s3cret"},
        }
    ],
    "metadata": {"team": "blue"},
    "priority": 3,
    "deadline": 600.0,
}


def test_stored_options_come_back_whole_with_their_credentials_encrypted(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *", run=SECRETIVE)
    with clock.store.read() as conn:
        (row,) = conn.execute(Schedule.__table__.select()).all()
    assert "s3cret" not in repr(row).replace(repr(row.secrets), "")
    clock.tick("12:10")
    (task,) = clock.tasks(schedule)
    assert task.secrets is not None
    assert task.input is not None
    secrets = clock.rules.sealer.open(task.secrets)
    whole = runs.unsealed(task.input["options"], secrets)
    assert whole["mcp_servers"] == SECRETIVE["mcp_servers"]
    assert whole["callback"] == SECRETIVE["callback"]
    assert (task.meta, task.priority, task.deadline_at) == ({"team": "blue"}, 3, at("12:10") + 600)
    assert task.has_callback


def _listen(clock: Clockwork) -> None:
    """The organisation has an endpoint that hears of every end."""
    row = {
        "id": "ep", "org_id": clock.org, "application_id": None, "style": "native", "url": "http://127.0.0.1:8099/",
        "events": ["*"], "agent_id": None, "payload_mode": "full", "secret": None, "old_secret": None,
        "old_secret_until": None, "active": True, "disabled_reason": None, "failing_since": None,
        "max_parallel": 1, "max_per_second": 1.0, "meta": None, "created_at": NOON, "updated_at": NOON,
    }  # fmt: skip
    clock.transact(lambda tx: tx.conn.execute(Endpoint.__table__.insert(), [row]))


def _delete_agent(clock: Clockwork, name: str) -> None:
    with clock.begin() as tx:
        agent = agents.resolve(tx.scope(clock.org), name).agent
        tx.conn.execute(Agent.__table__.delete().where(Agent.id == agent.id))


def _demand(clock: Clockwork, name: str) -> None:
    wanted = {"type": "object", "required": ["customer"], "properties": {"customer": {"type": "string"}}}
    clock.publish(name, "2.0.0", input={"schema": wanted})


def _deactivate(clock: Clockwork, name: str) -> None:
    with clock.begin() as tx:
        found = agents.resolve(tx.scope(clock.org), name)
        agent_rows.update_agent(tx, found.ref.agent_id, is_active=False)


def _yank(clock: Clockwork, name: str) -> None:
    with clock.begin() as tx:
        found = agents.resolve(tx.scope(clock.org), name, "1.0.0")
        agent_rows.update_version(tx, found.ref.version_id, yanked=True)


def _lose_the_key(clock: Clockwork, name: str) -> None:
    clock.with_rules(sealer=Sealer(new_key()))


def _fill_the_backlog(clock: Clockwork, name: str) -> None:
    clock.with_rules(max_queued=0)


def _reject(clock: Clockwork, name: str) -> None:
    rule = Rule("none", clock.org, Kind.AGENT, name, max_concurrent=0, strategy=Strategy.REJECT)
    clock.transact(lambda tx: limits.save(tx, rule))


def _spend(clock: Clockwork, name: str) -> None:
    table = Organisation.__table__
    clock.transact(lambda tx: tx.conn.execute(table.update().values(balance_micros=0)))


@pytest.mark.parametrize(
    ("prevent", "code", "cause"),
    [
        (_delete_agent, "agent_not_found", "input"),
        (_demand, "invalid_input", "input"),
        (_deactivate, "agent_inactive", "input"),
        (_yank, "version_not_found", "input"),
        (_lose_the_key, "seal_broken", "infrastructure"),
        (_fill_the_backlog, "backlog_full", "limit"),
        (_reject, "limit_reached", "limit"),
        (_spend, "quota_exceeded", "limit"),
    ],
)
def test_what_cannot_start_is_a_failed_run_that_callers_hear_of(
    clock: Clockwork, prevent: Callable[[Clockwork, str], None], code: str, cause: str
) -> None:
    name = clock.publish("@test/doomed")
    version = {"version": "~1.0"} if prevent is _yank else {}
    run = SECRETIVE | {"args": {"customer": 7}} | version
    schedule = clock.schedule("*/10 * * * *", name, run, pause_after_failures=2)
    _listen(clock)
    prevent(clock, name)
    clock.tick("12:10")
    (task,) = clock.tasks(schedule)
    assert task.status is Status.FAILED
    assert task.error is not None
    assert (task.error["code"], task.error["cause"], task.error["attempt"]) == (code, cause, 0)
    assert task.agent_name == name
    assert clock.log(task.id) == ["hold", "fail"]
    (row,) = clock.fires(schedule)
    assert (row.outcome, row.task_id, row.due_at) == ("failed", task.id, at("12:10"))
    assert (row.reason or "").startswith(f"{code}: ")
    with clock.store.read() as conn:
        promised = conn.execute(select(Delivery.endpoint_id, Delivery.event_type)).all()
    assert [e for e, _ in promised].count("ep") >= 1
    if prevent is not _lose_the_key:  # without the key the address of the callback is unreadable
        assert [e for e, _ in promised].count(None) >= 1

    def paused() -> str | None:
        clock.tick("12:20")  # leaves the schedule alone while the count of the first end has it locked
        return clock.stored(schedule).paused_reason

    assert wait_until(paused) == "2 runs in a row failed"


def test_a_schedule_that_pauses_leaves_the_rest_of_a_catch_up_alone(clock: Clockwork) -> None:
    name = clock.publish("@test/doomed")
    schedule = clock.schedule("*/10 * * * *", name, catch_up="all", pause_after_failures=2)
    _delete_agent(clock, name)
    clock.tick("13:00")
    assert clock.outcomes(schedule) == [("12:10", "failed"), ("12:20", "failed")]
    assert clock.stored(schedule).state is ScheduleState.PAUSED


def test_a_deactivated_organisation_runs_nothing(clock: Clockwork) -> None:
    schedule = clock.schedule("*/10 * * * *")
    table = Organisation.__table__
    clock.transact(lambda tx: tx.conn.execute(table.update().values(active=False)))
    clock.tick("12:10")
    assert clock.tasks(schedule) == []
    assert clock.outcomes(schedule) == [("12:10", "skipped")]
    assert clock.stored(schedule).next_due_at == at("12:20")


def test_a_damaged_schedule_pauses_and_a_faulty_one_holds_no_other_up(
    clock: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged, faulty, good = (clock.schedule("*/10 * * * *") for _ in range(3))
    zone = {"spec": {"kind": "cron", "expression": "*/10 * * * *", "timezone": "Nowhere/Else"}}
    clock.transact(lambda tx: clock_back(tx, damaged.id, zone))
    prepare = fires.prepare

    def fail(schedule: Any, *rest: Any) -> Any:
        if schedule.id == faulty.id:
            raise ZeroDivisionError
        return prepare(schedule, *rest)

    monkeypatch.setattr(fires, "prepare", fail)
    clock.tick("12:10")
    assert clock.fired(good) == ["12:10"]
    assert clock.fired(faulty) == []
    assert clock.stored(damaged).state is ScheduleState.PAUSED
    assert "Nowhere/Else" in (clock.stored(damaged).paused_reason or "")
    monkeypatch.undo()
    clock.schedulers = [clock.scheduler()]
    clock.tick("12:10:30")
    assert clock.fired(faulty) == ["12:10"]
