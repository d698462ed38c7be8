"""Which way a whole installation's wake-ups go: over Redis, or as Celery's messages where that fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.lateness import Lateness
from tests.servers import RabbitMQ, ServerMissing, ValkeyServer
from tests.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(240)
#: Nothing listens there.
AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def other() -> Iterator[ValkeyServer]:
    """A second Redis."""
    server = ValkeyServer()
    server.start()
    yield server
    server.stop()


def calls(url: str, command: str) -> int:
    """How often a Redis was asked for this command."""
    with redis.Redis.from_url(url) as client:
        stats: Any = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def soonest_start(stack: Stack, runs: int = 5) -> float:
    """How long after its acceptance the first of so many runs, one at a time, was claimed: seconds, without what
    the machine kept all of them waiting."""
    with Lateness() as late:
        tasks = [stack.run("@demo/echo", {"n": n}) for n in range(runs)]
    assert {task["status"] for task in tasks} == {"completed"}
    return min(delay(task) for task in tasks) - late.seconds / runs


def delay(task: dict[str, Any]) -> float:
    """Seconds from a run's acceptance to its claim."""
    claimed, accepted = (datetime.fromisoformat(task[name]) for name in ("started_at", "created_at"))
    return (claimed - accepted).total_seconds()


def test_over_redis_no_message_of_celerys_is_sent(tmp_path: Path, other: ValkeyServer) -> None:
    # Without a scheduler, which sends for what a slow worker has not claimed within two seconds.
    with Stack(tmp_path, redis_url=other.url, schedulers=0) as stack:
        stack.run("@demo/echo", {})
        with redis.Redis.from_url(stack.valkey.url) as broker:
            broker.config_resetstat()
            assert soonest_start(stack) < 1.0
            assert calls(stack.valkey.url, "hset") == 0
            assert calls(stack.valkey.url, "lpush") == 0  # kombu's, on a queue


def test_a_broker_that_is_away_does_not_delay_runs_while_redis_is_there(tmp_path: Path) -> None:
    with Stack(tmp_path, broker_url=AWAY) as stack:
        assert soonest_start(stack) < 1.0
        wait_until(lambda: stack.request("GET", "/readyz")[1]["checks"]["broker"] == "away", every=0.3)


def test_a_redis_that_is_away_does_not_delay_runs_while_the_broker_is_there(tmp_path: Path) -> None:
    with Stack(tmp_path, redis_url=AWAY) as stack:
        assert soonest_start(stack) < 1.0
        assert calls(stack.valkey.url, "lpush") > 0


@pytest.mark.rabbitmq
def test_rabbitmq_alone_wakes_workers(tmp_path: Path) -> None:
    broker = RabbitMQ()
    try:
        broker.start()
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    try:
        with Stack(tmp_path, broker_url=broker.url, redis_url=AWAY) as stack:
            assert soonest_start(stack) < 1.0
    finally:
        broker.stop()


def test_a_redis_that_is_frozen_costs_seconds(tmp_path: Path, other: ValkeyServer) -> None:
    with Stack(tmp_path, redis_url=other.url) as stack:
        stack.run("@demo/echo", {})
        assert other._process is not None
        other._process.send_signal(signal.SIGSTOP)
        try:
            for n in range(3):
                assert stack.run("@demo/echo", {"n": n})["status"] == "completed"
        finally:
            other._process.send_signal(signal.SIGCONT)
        wait_until(lambda: stack.request("GET", "/readyz")[1]["status"] == "ok", every=0.3)
        assert soonest_start(stack) < 1.0


def test_a_worker_that_only_hears_celery_is_served_by_the_relay(tmp_path: Path, other: ValkeyServer) -> None:
    """As one of an earlier version is, during a deployment."""
    with Stack(tmp_path, redis_url=other.url, workers=0) as stack:
        stack.env["RUNYARD_REDIS_URL"] = AWAY
        stack.start("worker-1")
        wait_until(lambda: stack.request("GET", "/api/v1/agents?limit=100")[1]["data"], seconds=60)
        with Lateness() as late:
            task = stack.run("@demo/echo", {})
        assert task["status"] == "completed"
        assert delay(task) < 10 + late.seconds
