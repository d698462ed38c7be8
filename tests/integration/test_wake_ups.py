"""Wake-ups over Redis: one wakes one worker, a busy worker takes none, and where Redis fails the broker is asked."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from runyard_common.database.engine import Database
from runyard_common.runtime import Runtime
from runyard_common.stream import Live
from runyard_common.stream.encoding import ORG
from runyard_common.stream.wake_ups import AT_MOST, KEPT, Kind, Listener, list_name
from runyard_common.values.ids import uuid7
from tests.installation import Recorder
from tests.integration.test_stream_followers import Committed, following, heard, subscribed
from tests.servers import ValkeyServer
from tests.waiting import until, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def installation() -> str:
    """An installation of this test alone: its lists are named after it."""
    return uuid7()


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    running = ValkeyServer()
    running.start()
    yield running
    running.stop()


@dataclass
class Worker:
    """What listens in a worker, and what it was woken for."""

    url: str
    installation: str
    free: bool = True
    woken: list[Kind] = field(default_factory=list)
    on_wake: Callable[[], object] = lambda: None

    def start(self) -> Worker:
        self.listener = Listener(
            self.url,
            self.installation,
            lambda: self.free,
            {kind: lambda kind=kind: self._wake(kind) for kind in Kind},  # type: ignore[misc]
        )
        return self

    def _wake(self, kind: Kind) -> None:
        self.woken.append(kind)
        self.on_wake()

    def fill(self) -> None:
        self.free = False

    def make_free(self) -> None:
        self.free = True
        self.listener.look()


@dataclass
class Publisher:
    """A process that commits: its live stream, and how often it asked the broker instead."""

    url: str
    installation: str
    asked: int = 0

    def __post_init__(self) -> None:
        self.live = Live(self.url, installation=lambda: self.installation)

    def wake(self, kind: Kind = Kind.RUNS) -> None:
        self.live.wake(kind, self._ask)

    def _ask(self) -> None:
        self.asked += 1


@pytest.fixture
def publisher(any_redis_url: str, installation: str) -> Iterator[Publisher]:
    publisher = Publisher(any_redis_url, installation)
    yield publisher
    publisher.live.close()


def waiting(url: str, installation: str, kind: Kind = Kind.RUNS) -> int:
    """Wake-ups that lie on a list."""
    with redis.Redis.from_url(url) as client:
        return int(client.llen(list_name(kind, installation)))


async def test_one_wakes_one_of_two_idle_workers(publisher: Publisher) -> None:
    workers = [Worker(publisher.url, publisher.installation).start() for _ in range(2)]

    def woken() -> list[Kind]:
        return [kind for worker in workers for kind in worker.woken]

    publisher.wake()
    await until(woken)
    await asyncio.sleep(0.2)
    assert woken() == [Kind.RUNS]
    sent = 1
    async with asyncio.timeout(40):
        while not all(worker.woken for worker in workers):  # the one that has waited longest is next
            publisher.wake()
            sent += 1
            await until(lambda: len(woken()) == sent)  # noqa: B023
    publisher.wake(Kind.DELIVERIES)
    await until(lambda: Kind.DELIVERIES in woken())
    assert (woken().count(Kind.RUNS), publisher.asked) == (sent, 0)
    for worker in workers:
        worker.listener.close()


async def test_those_without_a_listener_neither_grow_nor_last(publisher: Publisher) -> None:
    name = list_name(Kind.RUNS, publisher.installation)
    with redis.Redis.from_url(publisher.url) as client:
        for sent in range(1, 5 * AT_MOST):
            publisher.wake()
            await until(lambda: client.llen(name) == min(sent, AT_MOST))  # noqa: B023 - or they would be one
        publisher.live.close()
        assert int(client.llen(name)) == AT_MOST
        assert 0 < int(client.ttl(name)) <= KEPT


async def test_a_worker_without_a_free_slot_takes_none_until_one_is_free(publisher: Publisher) -> None:
    full = Worker(publisher.url, publisher.installation, free=False).start()
    publisher.wake()
    await until(lambda: waiting(publisher.url, publisher.installation))
    await asyncio.sleep(0.2)
    assert full.woken == []
    full.make_free()
    await until(lambda: full.woken)
    assert waiting(publisher.url, publisher.installation) == 0
    full.listener.close()


@pytest.mark.parametrize("leaves", [Worker.fill, lambda worker: worker.listener.close()])
async def test_one_that_reaches_a_worker_which_became_full_or_drains_is_given_back(
    leaves: Callable[[Worker], None], publisher: Publisher
) -> None:
    worker = Worker(publisher.url, publisher.installation).start()
    publisher.wake()
    await until(lambda: worker.woken)  # it waits for the next one
    leaves(worker)
    idle = Worker(publisher.url, publisher.installation).start()
    await asyncio.sleep(0.2)
    publisher.wake()
    await until(lambda: idle.woken)
    assert len(worker.woken) == 1
    worker.listener.close()
    idle.listener.close()


async def test_a_worker_whose_loop_is_blocked_leaves_the_next_to_others(
    valkey_url: str, installation: str
) -> None:
    publisher = Publisher(valkey_url, installation)
    worker = Worker(valkey_url, installation)
    left: list[int] = []

    def block() -> None:
        if left:
            return
        with redis.Redis.from_url(valkey_url) as client:
            client.lpush(name := list_name(Kind.RUNS, installation), b"1")
            wait_until(lambda: client.llen(name) == 0)  # it takes one more, of which its loop has yet to hear
            client.lpush(name, b"1")
            time.sleep(0.2)
        left.append(waiting(valkey_url, installation))

    worker.on_wake = block
    worker.start()
    publisher.wake()
    await until(lambda: len(worker.woken) == 3)
    assert left == [1]
    worker.listener.close()
    publisher.live.close()


async def test_a_listener_comes_back_after_its_redis(server: ValkeyServer, installation: str) -> None:
    publisher, worker = Publisher(server.url, installation), Worker(server.url, installation).start()
    publisher.wake()
    await until(lambda: worker.woken)
    server.kill()
    await asyncio.sleep(0.5)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.lpush(list_name(Kind.RUNS, installation), b"1")
    # What was taken just before the kill may be on the list again: its file is written every second.
    await until(lambda: len(worker.woken) >= 2)
    worker.listener.close()
    publisher.live.close()


async def test_without_redis_the_broker_is_asked_at_once(installation: str) -> None:
    publisher, worker = Publisher("", installation), Worker("", installation).start()
    publisher.wake()
    assert publisher.asked == 1
    worker.listener.close()


async def test_while_redis_is_away_the_broker_is_asked(installation: str) -> None:
    publisher = Publisher("redis://127.0.0.1:1/0", installation)
    publisher.wake()
    wait_until(lambda: publisher.asked == 1)
    wait_until(lambda: publisher.live.trouble is not None)
    publisher.wake()
    assert publisher.asked == 2  # without another attempt
    publisher.live.close()


async def test_while_redis_is_frozen_the_broker_is_asked_within_seconds(
    server: ValkeyServer, installation: str
) -> None:
    publisher = Publisher(server.url, installation)
    publisher.wake()
    wait_until(lambda: waiting(server.url, installation) == 1)
    assert server._process is not None
    server._process.send_signal(signal.SIGSTOP)
    try:
        publisher.wake()
        wait_until(lambda: publisher.asked == 1)
    finally:
        server._process.send_signal(signal.SIGCONT)
    publisher.live.close()


def _fill(client: Any) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")


@pytest.mark.parametrize("refuse", [_fill, lambda client: client.replicaof("127.0.0.1", "1")])
async def test_a_redis_that_is_full_or_read_only_still_takes_events_and_the_broker_is_asked(
    refuse: Callable[[Any], object], server: ValkeyServer, installation: str
) -> None:
    publisher = Publisher(server.url, installation)
    with redis.Redis.from_url(server.url) as client:
        async with following(server.url) as follower:
            with follower.follow(org := uuid7(), task := uuid7()) as subscription:
                await subscribed(server.url, ORG + org)
                refuse(client)
                publisher.wake()
                publisher.live.publish([Committed(org, task, 1)])
                await until(lambda: publisher.asked == 1)
                assert [event["seq"] for event in (await heard(subscription)).events] == [1]
        assert publisher.live.trouble is None
        assert not publisher.live._missed
    publisher.live.close()


async def test_while_the_installation_is_not_known_the_broker_is_asked(valkey_url: str) -> None:
    names: list[str | None] = [None, "fail"]
    asked: list[int] = []

    def lookup() -> str | None:
        if (name := names.pop(0)) == "fail":
            raise RuntimeError("the database is away")
        return name

    live = Live(valkey_url, installation=lookup)
    for count in (1, 2):
        live.wake(Kind.RUNS, lambda: asked.append(1))
        await until(lambda: len(asked) == count)  # noqa: B023
    names.append(name := uuid7())
    live.wake(Kind.RUNS, lambda: asked.append(1))
    await until(lambda: waiting(valkey_url, name) == 1)
    assert len(asked) == 2
    live.close()


async def test_what_redis_does_not_take_at_the_end_still_goes_to_the_broker(tmp_path: Path) -> None:
    broker = Recorder()
    runtime = Runtime(Database(f"sqlite:///{tmp_path / 'runyard.db'}"), Live("redis://127.0.0.1:1/0"), broker)
    asked_when_closed: list[int] = []
    broker.close = lambda: asked_when_closed.append(broker.rings)  # type: ignore[method-assign]
    runtime.stream.wake(Kind.RUNS, broker.notify)
    await asyncio.to_thread(runtime.close)
    assert asked_when_closed == [1]
