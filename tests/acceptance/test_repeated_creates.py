"""A client repeats its request: the api died, or its answer got lost. It is answered soon; nothing is made twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from runyard_api.fronts import operations
from runyard_common.database.engine import Database, metadata
from runyard_common.settings import Settings
from tests import stack as stacks
from tests.lateness import Lateness
from tests.ports import free_port
from tests.stack import Stack

pytestmark = pytest.mark.timeout(240)
RUN = "/api/v1/agents/@demo%2Fecho/run"
#: What the recovery of the accept path may take, in seconds.
PROMISED = 15.0


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two apis, of which the first can be made to fail, and a worker."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    settings: dict[str, Any] = {
        "RUNYARD_MODEL": "openai:scripted",
        "RUNYARD_MODEL_BASE_URL": "http://127.0.0.1:9/v1",
    }
    whole = stacks.MODULES["api"]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as end:
        patch.setitem(stacks.MODULES, "api", "tests.failing_api")
        stack = end.enter_context(Stack(tmp_path_factory.mktemp("repeated"), database_url=url, **settings))
        patch.setitem(stacks.MODULES, "api", whole)
        stack.ports["api-2"] = free_port()
        stack.start("api-2")
        stack.wait_ready()
        yield stack


@pytest.fixture
def failing(stack: Stack) -> Iterator[Callable[[str], None]]:
    """Makes api-1 fail at a point from now on; afterwards it is started again."""
    points: list[Path] = []

    def fail(point: str) -> None:
        points.append(stack.home / point)
        points[-1].touch()

    yield fail
    for point in points:
        point.unlink()
    if stack.processes["api-1"].poll() is not None:
        stacks.MODULES["api"] = "tests.failing_api"
        stack.start("api-1")
        stacks.MODULES["api"] = "runyard_api"
        stack.wait_ready()


def repeat(stack: Stack, path: str, body: Any, key: str) -> tuple[float, list[int], Any]:
    """Repeat a request until it is accepted: seconds, the statuses on the way, the answer."""
    began = time.monotonic()
    statuses: list[int] = []
    while True:
        status, answer = stack.request("POST", path, body, "api-2", {"idempotency-key": key})
        if status < 300:
            return time.monotonic() - began, statuses, answer
        statuses.append(status)
        assert status == 409, answer
        assert time.monotonic() - began < 60, statuses
        time.sleep(0.3)


def tasks_of(stack: Stack, marker: str) -> list[str]:
    """The ids of the runs with this title."""
    _, page = stack.request("GET", "/api/v1/tasks?limit=100", name="api-2")
    return [task["task_id"] for task in page["data"] if task["title"] == marker]


def test_a_stored_run_is_answered_at_once_after_the_api_died(
    stack: Stack, failing: Callable[[str], None]
) -> None:
    failing("die_before_answer")
    body = {"args": {}, "query": "died before the answer"}
    assert stack.request("POST", RUN, body, "api-1", {"idempotency-key": "answer"})[0] == 0

    with Lateness() as late:
        seconds, statuses, answer = repeat(stack, RUN, body, "answer")

    assert not statuses, "the run was stored: no caller waits for its sender's lease"
    assert seconds < 5 + late.seconds
    assert tasks_of(stack, "died before the answer") == [answer["task_id"]]


def test_a_run_that_was_not_stored_is_accepted_within_the_promised_time(
    stack: Stack, failing: Callable[[str], None]
) -> None:
    failing("die_before_commit")
    body = {"args": {}, "query": "died before the commit"}
    assert stack.request("POST", RUN, body, "api-1", {"idempotency-key": "commit"})[0] == 0

    with Lateness() as late:
        seconds, _, answer = repeat(stack, RUN, body, "commit")

    assert seconds < PROMISED + late.seconds
    assert tasks_of(stack, "died before the commit") == [answer["task_id"]]


def test_what_one_transaction_makes_is_answered_at_once_after_the_api_died_in_it(
    stack: Stack, failing: Callable[[str], None]
) -> None:
    failing("die_before_commit")
    body = {"agent": "@demo/echo", "schedule": "@yearly", "name": "once", "run": {"args": {}}}
    assert stack.request("POST", "/api/v1/schedules", body, "api-1", {"idempotency-key": "plan"})[0] == 0

    _, statuses, made = repeat(stack, "/api/v1/schedules", body, "plan")

    assert not statuses
    _, page = stack.request("GET", "/api/v1/schedules?limit=100", name="api-2")
    assert [row["id"] for row in page["data"] if row["name"] == "once"] == [made["id"]]


ECHO = "@demo/echo"
PLAN = {"agent": ECHO, "schedule": "@yearly", "run": {"args": {}}}
HOOK = "http://127.0.0.1:8099/hook"
NUGEN = {
    "agent_name": "nugen once",
    "agent_description": "Answers.",
    "model": "openai:scripted",
    "instructions": "Answer.",
}
PERSON = {"email": "m@example.com", "role": "member"}


def creating(stack: Stack) -> dict[str, tuple[str, Any]]:
    """The calls that take an Idempotency-Key: their path and body, by the operation's name."""
    done = stack.run(ECHO, {}, session_id="to-fork", seconds=60)
    invoice = {"lines": [{"amount": 1}]}
    asked, linked = (
        stack.until(stack.submit("@demo/invoice_check", invoice), "waiting_for_input")["task_id"]
        for _ in range(2)
    )
    native = "/api/v1"
    _, plan = stack.request("POST", f"{native}/schedules", PLAN)
    return {
        "native.make_link": (f"{native}/tasks/{linked}/answer-links", {}),
        "native.send_message": (f"{native}/tasks/{asked}/message", {"message": "ok"}),
        "native.run": (RUN, {"args": {}}),
        "native.send_event": (f"{native}/events", {"name": "paid"}),
        "native.retry": (f"{native}/tasks/{done['task_id']}/retry", {}),
        "native.create_schedule": (f"{native}/schedules", PLAN),
        "native.trigger_schedule": (f"{native}/schedules/{plan['id']}/trigger", None),
        "native.backfill_schedule": (
            f"{native}/schedules/{plan['id']}/backfill",
            {"since": "2025-06-01T00:00:00Z", "until": "2026-06-01T00:00:00Z"},
        ),
        "native.fork": (f"{native}/sessions/to-fork/fork", {}),
        "native.create_agent": (f"{native}/agents", {"name": "made once"}),
        "native.publish_manifest": (
            f"{native}/agents/manifests",
            {"name": "@demo/new", "instructions": "New."},
        ),
        "native.create_limit": (f"{native}/limits", {"kind": "organisation", "max_concurrent": 1000}),
        "native.create_key": (f"{native}/keys", {"name": "once", "role": "member"}),
        "native.create_organisation": (
            f"{native}/organisations",
            {"name": "Once", "owner_email": "o@example.com"},
        ),
        "native.add_member": (f"{native}/members", PERSON),
        "native.invite": (f"{native}/invitations", {"email": "i@example.com", "role": "member"}),
        "native.create_webhook": (f"{native}/webhooks", {"url": HOOK}),
        "nugen.create_agent": ("/api/v3/agents/create", NUGEN),
        "agentbase.run_agent": ("/?agent=@demo/new", {"message": "hi", "background": True}),
        "appstrate.start_run": ("/api/agents/@demo/echo/run", {"input": {}}),
        "appstrate.create_endpoint": (
            "/api/webhooks",
            {"url": HOOK, "events": ["run.completed"], "scope": "organization"},
        ),
        "appstrate.create_end_user": ("/api/end-users", {"name": "Once"}),
    }


#: They wait for the run to end, and submit it as agentbase's call does.
WAITING = {"nara.run_agent", "nugen.run_by_name", "nugen.run_by_id"}


def test_every_call_that_creates_answers_its_repetition_and_makes_nothing_twice(
    stack: Stack, failing: Callable[[str], None]
) -> None:
    calls = creating(stack)
    named = {operation.name for operation in operations() if "Idempotency-Key" in operation.headers}
    assert calls.keys() == named - WAITING
    headers = {name: {"idempotency-key": f"lost-{name}"} for name in calls}

    for name in ("worker-1", "scheduler-1"):  # what they write meanwhile is no caller's
        assert stack.end(name) == 0
    failing("lose_answers")
    for name, (path, body) in calls.items():
        status, answer = stack.request("POST", path, body, "api-1", headers[name])
        assert status == 502, (name, status, answer)
    stack.kill("api-1")
    made = counts(stack)

    with Lateness() as late:
        first = {name: repeat(stack, path, body, f"lost-{name}") for name, (path, body) in calls.items()}
    again = {name: repeat(stack, path, body, f"lost-{name}") for name, (path, body) in calls.items()}

    assert {name: statuses for name, (_, statuses, _) in first.items() if statuses} == {}
    assert {name: seconds for name, (seconds, _, _) in first.items() if seconds > 5 + late.seconds} == {}
    assert {name: ids(answer) for name, (_, _, answer) in first.items()} == {
        name: ids(answer) for name, (_, _, answer) in again.items()
    }
    assert counts(stack) == made


def ids(answer: Any) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name.endswith(("id", "Id"))}


def counts(stack: Stack) -> dict[str, int]:
    """How many rows there are of what the calls make."""
    db = Database(Settings(home=stack.home, database_url=stack.env["RUNYARD_DATABASE_URL"]).database)
    try:
        with db.read() as conn:
            return {
                name: conn.execute(select(func.count()).select_from(metadata.tables[name])).scalar_one()
                for name in sorted(metadata.tables)
                if name not in CHANGING
            }
    finally:
        db.close()


#: Tables that the engine writes to meanwhile.
CHANGING = {
    "deliveries",
    "events",
    "idempotency",
    "journal",
    "lanes",
    "outbox",
    "slots",
    "starts",
    "turns",
    "worker_agents",
    "workers",
}
