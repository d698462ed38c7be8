"""Brokers that are full, read-only, closed, blocked or gone: runs are stored, workers live on, readiness names it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from kombu.connection import Connection

from runyard_common.broker.application import RUNS
from runyard_common.broker.redis_patch import patch_kombu_redis
from tests.broker_garbage import RABBITMQ, REDIS
from tests.servers import RabbitMQ, RedisServer, ServerMissing
from tests.servers.rabbitmq import _PROGRAMS
from tests.stack import Stack
from tests.waiting import wait_until


@dataclass
class Outage:
    """One way in which a Redis cannot be used; `named` is what the broker's check then reads."""

    begin: Callable[[RedisServer, Any], object]
    end: Callable[[RedisServer, Any], object]
    named: str


def _fill(_: RedisServer, client: Any) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")


def _lock(_: RedisServer, client: Any) -> None:
    client.config_set("requirepass", "another")
    for kind in ("normal", "pubsub"):
        client.client_kill_filter(_type=kind, skipme=True)


OUTAGES = {
    "full": Outage(_fill, lambda _, client: client.config_set("maxmemory", "0"), "full"),
    "read-only": Outage(
        lambda _, client: client.replicaof("127.0.0.1", "1"),
        lambda _, client: client.replicaof("NO", "ONE"),
        "read_only",
    ),
    "of another password": Outage(
        _lock, lambda _, client: client.config_set("requirepass", ""), "credentials_refused"
    ),
    "gone": Outage(lambda server, _: server.kill(), lambda server, _: server.start(), "away"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    running = RedisServer()
    try:
        running.start()
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def stack(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("broker"),
        broker_url=server.url, redis_url=server.url, RUNYARD_REMOTE_CONTROL="true",
    ) as running:  # fmt: skip
        yield running


def _check(stack: Stack, name: str) -> str:
    _, body = stack.request("GET", "/readyz")
    return str(body["checks"][name]) if body and "checks" in body else ""


def _running(stack: Stack) -> dict[str, int | None]:
    return {name: running.poll() for name, running in stack.processes.items()}


def _logged(stack: Stack, name: str, **fields: str) -> bool:
    """Whether a process has logged a line with these fields."""
    lines = (stack.logs / f"{name}.log").read_text().split("\n")[:-1]  # the last is being written
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return any(fields.items() <= line.items() for line in found)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", OUTAGES)
def test_workers_outlive_a_redis_that_is(kind: str, stack: Stack, server: RedisServer) -> None:
    outage = OUTAGES[kind]
    with redis.Redis.from_url(server.url) as client:
        outage.begin(server, client)
        try:
            task_id = stack.submit("@demo/echo", {"kind": kind})
            stack.start("worker-2")
            wait_until(lambda: _check(stack, "broker") == outage.named, seconds=60, every=0.3)
            wait_until(lambda: _logged(stack, "worker-2", action="start"), seconds=60, every=0.3)
            if kind == "read-only":  # Celery itself words refused connections, and reads from a full Redis
                wait_until(lambda: _logged(stack, "worker-2", trouble=outage.named), seconds=60, every=0.3)
            assert set(_running(stack).values()) == {None}
        finally:
            outage.end(server, client)
        assert stack.until(task_id, seconds=60)["status"] == "completed"
    wait_until(lambda: stack.request("GET", "/readyz")[1]["status"] == "ok", seconds=60, every=0.3)
    assert set(_running(stack).values()) == {None}
    assert stack.end("worker-2") == 0
    (stack.logs / "worker-2.log").unlink()


@pytest.mark.timeout(240)
def test_workers_outlive_everything_that_may_lie_on_a_queue_of_a_redis(
    stack: Stack, server: RedisServer
) -> None:
    stack.run("@demo/echo", {})
    with redis.Redis.from_url(server.url) as client:
        queues = wait_until(lambda: found if len(found := _queues(client)) >= 4 else [])
        assert len(queues) == 4
        for queue in queues:
            for item in REDIS.values():
                client.rpush(queue, item)
        wait_until(lambda: not any(map(client.llen, queues)), seconds=60)
    assert stack.run("@demo/echo", {"after": "all of it"})["status"] == "completed"
    assert _running(stack)["worker-1"] is None
    wait_until(lambda: _logged(stack, "worker-1", action="drop"), seconds=60, every=0.1)


def test_what_is_no_message_among_the_unacknowledged_is_forgotten(server: RedisServer) -> None:
    patch_kombu_redis()
    with redis.Redis.from_url(server.url) as client, Connection(server.url) as connection:
        with connection.channel() as channel:
            for name, item in REDIS.items():
                client.hset("unacked", name, item)
                client.zadd("unacked_index", {name: 1})
            channel.qos.restore_visible(num=1000, interval=1)
        assert (client.hlen("unacked"), client.zcard("unacked_index")) == (0, 0)


def _queues(client: Any) -> list[str]:
    """The queues of wake-ups and of deliveries, the common ones and those of the installation."""
    prefix = "_kombu.binding."
    return [key.decode().removeprefix(prefix) for key in client.keys(f"{prefix}runyard.*")]


@pytest.mark.timeout(240)
def test_celery_still_finds_the_workers(stack: Stack) -> None:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "runyard_workers.app",
        "inspect",
        "ping",
        "--destination",  # it waits for this one's answer, and not until no further may come
        f"{stack.home.parent.name}-1@{socket.gethostname()}",
        "--timeout",
        "60",
    ]
    ended = subprocess.run(
        command,
        env=stack.env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "pong" in ended.stdout, ended.stderr


@pytest.mark.timeout(240)
def test_two_installations_on_one_redis_do_not_hear_each_other(
    stack: Stack, server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("neighbour")
    with (
        Stack(folder, broker_url=server.url, redis_url=server.url) as neighbour,
        redis.Redis.from_url(server.url) as client,
    ):
        neighbour.run("@demo/echo", {})
        neighbour.end("worker-1")
        waiting = neighbour.submit("@demo/echo", {"for": "its own worker"})
        # Its wake-up stays where it is, although the first installation's worker is idle.
        left = wait_until(lambda: client.keys("runyard.runs*"))
        assert stack.run("@demo/echo", {})["status"] == "completed"
        assert set(client.keys("runyard.runs*")) >= set(left)
        neighbour.start("worker-1")
        assert neighbour.until(waiting, seconds=60)["status"] == "completed"


@pytest.mark.rabbitmq
@pytest.mark.timeout(300)
def test_workers_outlive_a_rabbitmq_that_is_blocked_and_restarted(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    broker = RabbitMQ()
    try:
        broker.start()
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    try:
        with Stack(tmp_path_factory.mktemp("rabbitmq"), broker_url=broker.url) as stack:
            stack.run("@demo/echo", {})
            _ctl(broker, "set_vm_memory_high_watermark", "absolute", "1")
            blocked = [stack.submit("@demo/echo", {"n": 1})]
            wait_until(lambda: _check(stack, "broker") == "blocked", seconds=60, every=0.5)
            assert stack.end("worker-1") == 0, "it leaves although the broker does not take its goodbye"
            stack.start("worker-1")
            _ctl(broker, "set_vm_memory_high_watermark", "absolute", "1GB")
            assert stack.until(blocked[0], seconds=60)["status"] == "completed"
            _ctl(broker, "stop_app")
            waiting = stack.submit("@demo/echo", {"n": 2})
            wait_until(lambda: _check(stack, "broker") == "away", seconds=60, every=0.5)
            _ctl(broker, "start_app")
            assert stack.until(waiting, seconds=60)["status"] == "completed"
            _publish_garbage(broker.url)
            assert stack.run("@demo/echo", {"after": "all of it"})["status"] == "completed"
            wait_until(lambda: _logged(stack, "worker-1", action="drop"), seconds=60, every=0.1)
            assert set(_running(stack).values()) == {None}
            first = stack.submit("@demo/sleeper", {"seconds": 60})
            stack.until(first, "running")
            with _frozen(broker):
                assert stack.end("worker-1") == 0
                assert stack.task(first)["status"] in ("pending", "queued"), (
                    "handed back, and not left for a rescue"
                )
    finally:
        broker.stop()


def _publish_garbage(url: str) -> None:
    """Put everything that is no message of Runyard's on the queues of wake-ups, and wait until it is taken."""
    with Connection(url) as connection, connection.channel() as channel:
        for body, kind, encoding, headers in RABBITMQ.values():
            message = channel.prepare_message(
                body, content_type=kind, content_encoding=encoding, headers=headers
            )
            channel.basic_publish(message, exchange=RUNS, routing_key=RUNS)
        wait_until(lambda: channel.queue_declare(RUNS, passive=True).message_count == 0, seconds=30)


@contextmanager
def _frozen(broker: RabbitMQ) -> Iterator[None]:
    assert broker._broker is not None
    broker._broker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        broker._broker.send_signal(signal.SIGCONT)


def _ctl(broker: RabbitMQ, *command: str) -> None:
    subprocess.run([_PROGRAMS / "rabbitmqctl", "-q", *command], env=broker.env, check=True, timeout=60)
