"""Threads and tasks that a whole process depends on outlive what one run, one message or one caller hands them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import pytest

from runyard_common.broker.application import application
from runyard_common.broker.notifier import BrokerNotifier
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store, Tx
from runyard_common.settings import Settings
from runyard_common.stream import GAP, Follower, Live, Tokens
from runyard_common.stream.encoding import TASK
from runyard_common.stream.subscription import Subscription
from runyard_common.values.ids import uuid7
from runyard_common.values.logged_event import LoggedEvent
from runyard_common.values.outages import Outage
from tests.integration.test_stream_followers import subscribed
from tests.waiting import wait_until

pytestmark = pytest.mark.anyio


class Unwritable:
    """A value without a JSON form, whose own methods raise."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


BAD_TOKENS: dict[str, Any] = {
    "half a surrogate pair": {"text": "\ud83d"},
    "the other half": {"text": "\udc00 rest"},
    "a surrogate in a name": {"\ud800": 1},
    "bytes": {"text": b"\xff"},
    "a set": {"text": {1}},
    "an object that raises": {"text": Unwritable()},
    "a function": {"text": print},
    "a very deep list": {"text": reduce(lambda inner, _: [inner], range(3000), list[Any]())},
    "no mapping at all": "\ud83d",
    "a number beyond 64 bits": {"n": 2**80},
    "not a number": {"n": float("nan")},
}


@dataclass(frozen=True)
class Event:
    """A committed event with any data."""

    org_id: str
    task_id: str
    data: Any
    seq: int = 1

    def to_json(self) -> LoggedEvent:
        return {
            "task_id": self.task_id,
            "seq": self.seq,
            "type": "emit",
            "attempt": 1,
            "data": self.data,
            "at": 1.0,
        }


@asynccontextmanager
async def _following(url: str, org: str, task: str) -> AsyncIterator[Subscription]:
    follower = Follower(url)
    await follower.start()
    with follower.follow(org, task, tokens=True) as subscription:
        assert await subscription.next(30.0) is GAP
        await subscribed(url, TASK + task)  # beside the organisation's channel
        try:
            yield subscription
        finally:
            await follower.close()


async def _tokens(subscription: Subscription) -> list[Any]:
    while True:
        item = await subscription.next(30.0)
        assert item is not None, "nothing was heard"
        if isinstance(item, Tokens):
            return item.tokens


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_token_without_a_json_form_leaves_the_stream_of_all_others_alone(
    kind: str, valkey_url: str
) -> None:
    org, task = uuid7(), uuid7()
    live = Live(valkey_url)
    async with _following(valkey_url, org, task) as subscription:
        live.token(task, 1, BAD_TOKENS[kind])
        live.token(task, 1, {"text": "next"})
        heard = await _tokens(subscription)
        while heard[-1] != {"text": "next"}:
            heard = await _tokens(subscription)
    assert live._thread is not None
    assert live._thread.is_alive()
    live.close()


async def test_halves_of_a_pair_become_a_replacement_and_a_split_pair_is_joined(valkey_url: str) -> None:
    org, task = uuid7(), uuid7()
    live = Live(valkey_url)
    async with _following(valkey_url, org, task) as subscription:
        live.token(task, 1, {"text": "a\ud83d"})
        assert await _tokens(subscription) == [{"text": "a�"}]
        live.token(task, 1, {"text": "\ud83d\ude00"})
        assert await _tokens(subscription) == [{"text": "\U0001f600"}]
    live.close()


async def test_what_has_no_form_is_counted_and_followers_of_a_lost_event_read_the_database(
    valkey_url: str,
) -> None:
    org, task = uuid7(), uuid7()
    live = Live(valkey_url)
    async with _following(valkey_url, org, task) as subscription:
        live.publish([Event(org, task, Unwritable()), Event(org, task, "fine", 2)])
        assert await subscription.next(30.0) is GAP
        live.token(task, 1, {"text": Unwritable()})
        wait_until(lambda: live.unsendable == 2)
    live.close()


async def test_an_event_whose_own_form_raises_does_not_end_the_publisher(valkey_url: str) -> None:
    class Broken:
        org_id = "org"

        def to_json(self) -> LoggedEvent:
            raise KeyError("data")

    org, task = uuid7(), uuid7()
    live = Live(valkey_url)
    async with _following(valkey_url, org, task) as subscription:
        live.publish([Broken()])
        live.token(task, 1, {"text": "next"})
        live.token(task, 1, {"text": "last"})
        await asyncio.sleep(0.2)
        live.token(task, 1, {"text": "after"})
        while {"text": "after"} not in await _tokens(subscription):
            pass
    live.close()


async def test_a_follower_whose_callback_raises_hears_on(valkey_url: str) -> None:
    live, follower = Live(valkey_url), Follower(valkey_url)
    heard: list[str] = []

    def stop(task_id: str) -> None:
        heard.append(task_id)
        raise LookupError(task_id)

    await follower.start()
    worker = uuid7()
    follower.listen_worker(worker, stop)
    end = time.monotonic() + 40
    while len(heard) < 3 and time.monotonic() < end:
        live.cancel(worker, f"run-{len(heard)}")
        await asyncio.sleep(0.05)
    assert len(heard) >= 3
    assert follower.connected
    await follower.close()
    live.close()


@dataclass
class _Names:
    """A lookup of the installation that fails at first."""

    failures: int = 2
    asked: list[float] = field(default_factory=list)

    def __call__(self) -> str:
        self.asked.append(time.monotonic())
        if len(self.asked) <= self.failures:
            raise RuntimeError("the database is away")
        return "installation"


def test_the_notifier_waits_for_the_database(valkey_url: str) -> None:
    names = _Names()
    notifier = BrokerNotifier(application(Settings(broker_url=valkey_url)), names)
    for _ in range(4):
        notifier.notify()
        time.sleep(0.1)
    wait_until(lambda: len(names.asked) == 3)
    wait_until(lambda: notifier.check() is None)
    assert notifier._thread.is_alive()
    notifier.close()


def test_the_notifier_names_a_broker_that_is_away() -> None:
    notifier = BrokerNotifier(application(Settings(broker_url="redis://127.0.0.1:1/0")))
    notifier.notify()
    trouble = wait_until(lambda: notifier.trouble)
    assert trouble is not None
    assert trouble.outage is Outage.AWAY
    notifier.close()


def test_group_commit_goes_on_after_a_batch_that_answers_nonsense(tmp_path: Any) -> None:
    from runyard_common.database import migrate

    db = Database(f"sqlite:///{tmp_path / 'runyard.db'}")
    migrate.upgrade(db)
    writer = GroupCommit(Store(db))

    def nonsense(_tx: Tx, _commands: Any) -> Any:
        return 7

    def leave(_tx: Tx, _commands: Any) -> Any:
        raise SystemExit(3)

    def sound(_tx: Tx, commands: Any) -> Any:
        return list(commands)

    for bad in (nonsense, leave):
        with pytest.raises(BaseException):  # noqa: B017, PT011 - its caller has it, of any kind
            writer.submit(bad, 1).result(50)
    assert writer.submit(sound, 2).result(50) == 2
    assert threading.current_thread() is not writer._thread
    writer.close()
    db.close()
