"""Followers of the live stream, over a real Redis and Valkey and without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from runyard_common.stream import GAP, Events, Follower, Live, Tokens, listen_worker
from runyard_common.stream.encoding import ORG, TASK, WORKER
from runyard_common.stream.follower import TICK
from runyard_common.stream.subscription import Subscription
from runyard_common.values.ids import uuid7
from runyard_common.values.logged_event import LoggedEvent
from tests.servers import ValkeyServer
from tests.waiting import until

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Committed:
    """A committed event, as transactions note it."""

    org_id: str
    task_id: str
    seq: int
    type: str = "progress"

    def to_json(self) -> LoggedEvent:
        return {
            "task_id": self.task_id,
            "seq": self.seq,
            "type": self.type,
            "attempt": 1,
            "data": {},
            "at": 1.0,
        }


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Follower]:
    follower = Follower(url)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.close()


async def heard(subscription: Subscription, seconds: float = 30.0) -> Any:
    """The next item that is no gap."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        item = await subscription.next(left)
        if item is not None and item is not GAP:
            return item
    raise AssertionError("nothing was heard")


async def confirmed(subscription: Subscription) -> None:
    """Wait until Redis has confirmed the subscription: that is sent as a gap."""
    assert await subscription.next(30.0) is GAP


async def subscribed(url: str, channel: str) -> None:
    """Wait until Redis sends what is published there to a follower."""
    with redis.Redis.from_url(url) as client:
        await until(lambda: client.pubsub_numsub(channel)[0][1] > 0)


async def test_events_reach_the_followers_of_their_task_and_organisation_alone(any_redis_url: str) -> None:
    org, other, task = uuid7(), uuid7(), uuid7()
    live = Live(any_redis_url)
    async with following(any_redis_url) as follower:
        await until(lambda: follower.connected)
        with (
            follower.follow(org, task) as one,
            follower.follow(org) as all_,
            follower.follow(other, task) as stranger,
        ):
            await confirmed(one)
            await confirmed(all_)
            await confirmed(stranger)
            live.publish(
                [
                    Committed(org, task, 1),
                    Committed(org, uuid7(), 1),
                    Committed(other, uuid7(), 1),
                    Committed(org, task, 2),
                ]
            )
            assert [e["seq"] for e in (await heard(one)).events] == [1, 2]
            assert len((await heard(all_)).events) == 3
            assert await stranger.next(0.2) is None
    live.close()


async def test_token_deltas_reach_those_who_want_them_in_order_with_their_attempt(any_redis_url: str) -> None:
    org, task = uuid7(), uuid7()
    live = Live(any_redis_url)
    async with following(any_redis_url) as follower:
        await until(lambda: follower.connected)
        with follower.follow(org, task, tokens=True) as with_tokens, follower.follow(org, task) as without:
            await confirmed(with_tokens)
            await subscribed(any_redis_url, TASK + task)
            for text in ("Hel", "lo"):
                live.token(task, 2, {"text": text})
            live.publish([Committed(org, task, 5)])
            texts: list[str] = []
            while not isinstance(item := await heard(with_tokens), Events):
                assert isinstance(item, Tokens)
                assert item.attempt == 2
                texts += [token["text"] for token in item.tokens]
            assert "".join(texts) == "Hello"
            assert isinstance(await heard(without), Events)
    live.close()


async def test_a_worker_hears_which_of_its_runs_were_stopped(any_redis_url: str) -> None:
    worker = uuid7()
    stopped: list[str] = []
    listening = asyncio.create_task(listen_worker(any_redis_url, worker, stopped.append))
    live = Live(any_redis_url)
    task = uuid7()
    await subscribed(any_redis_url, WORKER + worker)
    live.cancel(worker, task)
    await until(lambda: stopped)
    assert set(stopped) == {task}
    listening.cancel()
    live.close()


async def test_channels_are_held_only_while_there_is_a_follower(any_redis_url: str) -> None:
    org = uuid7()
    channel = f"runyard:org:{org}"
    client = redis.Redis.from_url(any_redis_url)
    async with following(any_redis_url) as follower:
        await until(lambda: follower.connected)
        first, second = follower.follow(org), follower.follow(org, uuid7())
        await until(lambda: client.pubsub_numsub(channel)[0][1] == 1)
        first.close()
        first.close()  # a second close is none
        assert follower._channels[channel] == 1
        second.close()
        await until(lambda: client.pubsub_numsub(channel)[0][1] == 0)
    client.close()


async def test_a_follower_too_slow_for_its_queue_hears_of_a_gap(any_redis_url: str) -> None:
    org, task = uuid7(), uuid7()
    async with following(any_redis_url) as follower:
        with follower.follow(org, task, limit=3) as slow:
            for seq in range(1, 10):
                follower.hand_over([Committed(org, task, seq)])
            await asyncio.sleep(0.1)
            items = []
            while (item := await slow.next(0.01)) is not None:
                items.append(item)
            assert GAP in items
            assert len(items) <= 4


async def test_without_redis_followers_look_once_a_second(tmp_path: Path) -> None:
    async with following("") as follower:
        with follower.follow("org", "task") as waiting:
            assert await waiting.next(30) is GAP
            assert TICK == 1.0
    async with following("redis://127.0.0.1:1/0") as follower:
        with follower.follow("org", "task") as waiting:
            assert await waiting.next(30) is GAP
            assert not follower.connected


async def test_what_a_publisher_could_not_send_is_reported_as_a_gap(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    org, task = uuid7(), uuid7()
    live = Live(server.url)
    try:
        async with following(server.url) as follower:
            await until(lambda: follower.connected)
            with follower.follow(org, task) as waiting:
                await confirmed(waiting)
                server.stop()
                await until(lambda: not follower.connected)
                live.publish([Committed(org, task, 1)])
                await until(lambda: bool(live._missed))
                assert await waiting.next(30) is GAP
                server.start()
                await until(lambda: follower.connected and not live._missed)
                await subscribed(server.url, ORG + org)
                live.publish([Committed(org, task, 2)])
                assert [e["seq"] for e in (await heard(waiting)).events] == [2]
    finally:
        live.close()
        server.stop()


def test_publishing_never_blocks_nor_fails_its_caller() -> None:
    live = Live("redis://127.0.0.1:1/0", queue_size=100)
    began = time.monotonic()
    for seq in range(1, 5000):
        live.publish([Committed("org", "task", seq)])
        live.token("task", 1, {"text": "x"})
    assert time.monotonic() - began < 30  # it would wait for each of them
    live.close()


# ---- through the api
