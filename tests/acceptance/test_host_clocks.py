"""Hosts whose clocks are an hour off: deadlines, signatures and views go by the database's clock."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.delivering import ReceiverProcess
from tests.ports import free_port
from tests.stack import ROOT, Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.timeout(180), pytest.mark.postgres]
HOUR = 3600.0
#: How far off the database's time may be that a process knows, in seconds: it is as old as its answer was late.
MOST_OFF = 30.0
SKEWED = str(Path(ROOT, "tests", "skewed_clock"))


@pytest.fixture(scope="module", params=[HOUR, -HOUR], ids=["an_hour_ahead", "an_hour_behind"])
def skewed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], str],
) -> Iterator[Stack]:
    """An installation on PostgreSQL; the hosts of api-2 and of its worker have a clock that is off."""
    with Stack(tmp_path_factory.mktemp("clocks"), database_url=migrated_database(), workers=0) as stack:
        stack.ports["api-2"] = free_port()
        right = stack.env
        stack.env = right | {
            "PYTHONPATH": f"{SKEWED}:{right['PYTHONPATH']}",
            "TEST_CLOCK_AHEAD": str(request.param),
        }
        stack.start("api-2")
        stack.start("worker-1")
        stack.env = right
        stack.wait_ready()
        yield stack


def deadline_of(task: dict[str, Any]) -> float:
    return datetime.fromisoformat(task["deadline"]).timestamp()


def test_a_deadline_in_seconds_counts_from_the_database_s_now(skewed: Stack) -> None:
    before = time.time()
    task_id = skewed.submit("@demo/echo", {"a": 1}, name="api-2", deadline=60)
    after = time.time()

    assert before - MOST_OFF < deadline_of(skewed.task(task_id)) - 60 < after + MOST_OFF
    assert skewed.until(task_id)["status"] == "completed"


def test_a_deadline_as_a_date_is_compared_with_the_database_s_now(skewed: Stack) -> None:
    at = datetime.fromtimestamp(time.time() + 120, UTC).isoformat()
    task_id = skewed.submit("@demo/echo", {"a": 1}, name="api-2", deadline=at)
    assert skewed.until(task_id)["status"] == "completed"

    past = datetime.fromtimestamp(time.time() - 60, UTC).isoformat()
    status, body = skewed.request(
        "POST", "/api/v1/agents/@demo%2Fecho/run", {"args": {}, "deadline": past}, "api-2"
    )
    assert (status, body["code"]) == (400, "invalid_deadline")


def test_operators_views_are_judged_by_the_database_s_now(skewed: Stack) -> None:
    _, workers = skewed.request("GET", "/api/v1/ops/workers", name="api-2")
    assert [worker["state"] for worker in workers["data"]] == ["alive"]
    _, queue = skewed.request("GET", "/api/v1/ops/queue", name="api-2")
    assert queue["workers"] == 1


def test_the_api_warns_in_its_log_and_shows_the_difference_in_its_metrics(
    skewed: Stack, request: pytest.FixtureRequest
) -> None:
    ahead = request.node.callspec.params["skewed"]
    text = (skewed.logs / "api-2.log").read_text()
    assert text.count("This host's clock differs from the database's") == 1

    seen = metric(skewed, "runyard_clock_offset_seconds")
    assert seen == pytest.approx(ahead, abs=MOST_OFF)


def test_a_delay_schedule_fires_after_its_delay(skewed: Stack) -> None:
    before = time.time()
    status, made = skewed.request(
        "POST",
        "/api/v1/schedules",
        {"agent": "@demo/echo", "schedule": 1, "run": {"args": {"a": 2}}},
        "api-2",
    )
    assert status == 201, made
    due = datetime.fromisoformat(made["next_due_at"]).timestamp()
    assert before - MOST_OFF < due - 1 < time.time() + MOST_OFF


def test_callbacks_are_signed_at_the_database_s_time(skewed: Stack, tmp_path: Path) -> None:
    receiver = ReceiverProcess(tmp_path / "received")
    before = time.time()
    try:
        skewed.run("@demo/echo", {"a": 3}, callback={"url": receiver.url("/ok")})
        got = wait_until(lambda: receiver.received)
    finally:
        receiver.stop()
    assert before - MOST_OFF < float(got[0].headers["webhook-timestamp"]) < time.time() + MOST_OFF


def metric(stack: Stack, name: str) -> float:
    with urllib.request.urlopen(stack.url("/metrics", "api-2"), timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))
