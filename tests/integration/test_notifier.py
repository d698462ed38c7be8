"""Wake-ups on fakeredis, Valkey and Redis alike: sent from a thread of their own, together, never in a caller's way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import kombu.pools
import pytest
import redis

from runyard_common.broker.application import QueueNames, application
from runyard_common.broker.notifier import BrokerNotifier
from runyard_common.settings import Settings
from runyard_common.values.ids import uuid7
from tests.fakes.redis_server import FakeRedis
from tests.waiting import wait_until

Made = Callable[..., BrokerNotifier]


@pytest.fixture
def installation() -> str:
    """An installation of this test alone: its queues are named after it."""
    return uuid7()


@pytest.fixture
def doorbell(installation: str, tmp_path: Path) -> Iterator[Made]:
    made: list[BrokerNotifier] = []

    def make(url: str, go_on: threading.Event | None = None) -> BrokerNotifier:
        app = application(Settings(home=tmp_path, broker_url=url))

        def lookup() -> str:
            assert go_on is None or go_on.wait(30)
            return installation

        made.append(BrokerNotifier(app, lookup))
        return made[-1]

    yield make
    for each in made:
        each.close()
    kombu.pools.reset()  # what they sent by, which is kept for the next sender of the process


def length(url: str, queue: str) -> int:
    """How many messages lie on a queue."""
    with redis.Redis.from_url(url) as client:
        return int(client.llen(queue))


def test_a_wake_up_is_a_message_on_the_queue_of_its_installation(
    any_redis_url: str, doorbell: Made, installation: str
) -> None:
    notifier, names = doorbell(any_redis_url), QueueNames.of(installation)
    notifier.notify()
    wait_until(lambda: length(any_redis_url, names.runs) == 1)
    assert length(any_redis_url, names.deliveries) == 0
    notifier.notify_deliveries()
    wait_until(lambda: length(any_redis_url, names.deliveries) == 1)
    assert notifier.check() is None


def test_many_at_once_are_few_messages(any_redis_url: str, doorbell: Made, installation: str) -> None:
    notifier = doorbell(any_redis_url, go_on := threading.Event())
    for _ in range(200):
        notifier.notify()
    go_on.set()
    notifier.close()
    assert 1 <= length(any_redis_url, QueueNames.of(installation).runs) <= 2


def test_a_broker_that_goes_away_is_named_and_its_notifier_lives_on(
    doorbell: Made, installation: str
) -> None:
    with FakeRedis() as url:
        notifier = doorbell(url)
        notifier.notify()
        wait_until(lambda: length(url, QueueNames.of(installation).runs) == 1)
    notifier.notify()
    wait_until(lambda: notifier.trouble is not None, seconds=30)
    assert notifier.check() is not None
    assert notifier._thread.is_alive()
