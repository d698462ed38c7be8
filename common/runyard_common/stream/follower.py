"""The following side: one Redis connection per process, shared by all its local followers.

Followers of a channel that Redis confirms hear of a gap, because what happened before the confirmation was
not heard: so a follower that registers first and reads the database after each gap misses nothing. The same
covers reconnects. While there is no connection every follower hears of a gap once a second.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import orjson
import structlog
from redis import RedisError
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runyard_common.stream.clients import connect_async
from runyard_common.stream.encoding import ALL, ORG, TASK, TIMEOUT, WORKER, Published
from runyard_common.stream.subscription import GAP, Events, Item, Subscription, Tokens
from runyard_common.values.logged_event import LoggedEvent
from runyard_common.values.outages import diagnose

log = structlog.get_logger()

TICK: Final = 1.0
_PING_EVERY: Final = 4.0
_SILENCE: Final = 10.0  # no pong for this long: the connection is dead
_LONGEST_PAUSE: Final = 2.0
_WARN_EVERY: Final = 10.0


class Follower:
    """Hands the live stream to local followers. Everything but `hand_over` belongs to one event loop."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self.connected = False
        self._tasks: dict[str, set[Subscription]] = defaultdict(set)
        self._orgs: dict[str, set[Subscription]] = defaultdict(set)
        self._deltas: dict[str, set[Subscription]] = defaultdict(set)
        self._workers: dict[str, tuple[Callable[[str], object], Callable[[], object] | None]] = {}
        self._channels: Counter[str] = Counter()  # how many followers need each
        self._active: set[str] = set()  # asked of Redis on this connection
        self._changed = asyncio.Event()
        self._heard_at = 0.0
        self._warned_at = -_WARN_EVERY
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow, connected or not."""
        self._loop = asyncio.get_running_loop()
        self._running = [asyncio.create_task(self._tick(), name="stream-tick")]
        if self._url:
            self._running.append(asyncio.create_task(self._keep_connected(), name="stream-follower"))

    async def close(self) -> None:
        """End the connection; followers hear nothing more."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running = []

    def follow(
        self, org_id: str, task_id: str | None = None, *, tokens: bool = False, limit: int = 256
    ) -> Subscription:
        """Follow an organisation, or one of its tasks; close the subscription in the end (or use `with`).

        The caller answers for the task being that organisation's. Register first, then read the database.
        """
        subscription = Subscription(org_id, task_id, tokens, limit, self._forget)
        if task_id is None:
            self._orgs[org_id].add(subscription)
        else:
            self._tasks[task_id].add(subscription)
        self._need(ORG + org_id)
        if tokens and task_id is not None:
            self._deltas[task_id].add(subscription)
            self._need(TASK + task_id)
        return subscription

    def listen_worker(
        self, worker_id: str, on_cancel: Callable[[str], object], on_gap: Callable[[], object] | None = None
    ) -> Callable[[], None]:
        """Call `on_cancel` with the id of each task of this worker that is cancelled, and `on_gap` (when given)
        whenever orders may have been missed. Returns what ends it."""
        channel = WORKER + worker_id
        self._workers[worker_id] = (on_cancel, on_gap)
        self._need(channel)

        def end() -> None:
            if self._workers.pop(worker_id, None) is not None:
                self._release(channel)

        return end

    def hand_over(self, events: Sequence[Published]) -> None:
        """Hand local followers the events that this process has just committed, from any thread, Redis or not."""
        if self._loop is None or not (self._tasks or self._orgs):
            return
        by_org: dict[str, list[LoggedEvent]] = {}
        for event in events:
            by_org.setdefault(event.org_id, []).append(event.to_json())
        try:
            self._loop.call_soon_threadsafe(self._deliver_all, by_org)
        except RuntimeError:
            pass  # the loop has ended, and its followers with it

    def wake(self) -> None:
        """Make every follower look around now."""
        self._gap(None)

    def _forget(self, subscription: Subscription) -> None:
        by, key = (self._orgs, subscription.org_id)
        if subscription.task_id is not None:
            by, key = self._tasks, subscription.task_id
        if subscription not in by.get(key, ()):
            return
        _discard(by, key, subscription)
        self._release(ORG + subscription.org_id)
        if subscription.tokens and subscription.task_id is not None:
            _discard(self._deltas, subscription.task_id, subscription)
            self._release(TASK + subscription.task_id)

    def _need(self, channel: str) -> None:
        self._channels[channel] += 1
        if self._channels[channel] == 1:
            self._changed.set()

    def _release(self, channel: str) -> None:
        self._channels[channel] -= 1
        if self._channels[channel] <= 0:
            del self._channels[channel]
            self._changed.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if not self.connected:
                try:
                    self._gap(None)
                except Exception:
                    log.exception("A follower failed on a gap.", action="stream.gap")

    async def _keep_connected(self) -> None:
        pause = 0.1
        while True:
            try:
                async with connect_async(
                    self._url,
                    socket_connect_timeout=TIMEOUT,
                    socket_timeout=None,
                    retry=Retry(NoBackoff(), 0),
                ) as client:
                    pubsub = client.pubsub()
                    try:
                        await pubsub.subscribe(ALL)
                        pause = 0.1
                        await self._serve(pubsub)
                    finally:
                        self._lost()
                        await pubsub.aclose()  # type: ignore[no-untyped-call]
            except* (RedisError, OSError) as errors:
                self._warn(errors.exceptions[0])
            except* Exception:
                # All followers of the process depend on this task: it connects again after any failure.
                log.exception("The live stream's connection failed inside.", action="stream.reconnect")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self, pubsub: PubSub) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._changed.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(pubsub))
            group.create_task(self._keep_channels(pubsub))
            group.create_task(self._keep_alive(pubsub))

    def _lost(self) -> None:
        self.connected = False
        self._active = set()
        self._gap(None)

    async def _read(self, pubsub: PubSub) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await pubsub.get_message(timeout=None)
            self._heard_at = loop.time()
            if message is None:
                continue
            if message["type"] == "message":
                self._handle_safely(message["channel"].decode(), message["data"])
            elif message["type"] == "subscribe":
                self._confirmed(message["channel"].decode())

    async def _keep_channels(self, pubsub: PubSub) -> None:
        """Subscribe to what followers need, and to nothing else."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = set(self._channels)
            added, removed = wanted - self._active, self._active - wanted
            self._active = wanted
            if added:
                await pubsub.subscribe(*sorted(added))
            if removed:
                await pubsub.unsubscribe(*sorted(removed))

    async def _keep_alive(self, pubsub: PubSub) -> None:
        while True:
            await asyncio.sleep(_PING_EVERY)
            if asyncio.get_running_loop().time() - self._heard_at > _SILENCE:
                raise ConnectionError("Redis has stopped answering")
            await pubsub.ping()

    def _confirmed(self, channel: str) -> None:
        if channel == ALL:
            self.connected = True
        elif channel.startswith(ORG):
            self._gap([channel.removeprefix(ORG)])
        elif channel.startswith(WORKER):
            _, on_gap = self._workers.get(channel.removeprefix(WORKER), (None, None))
            if on_gap is not None:
                on_gap()

    def _handle_safely(self, channel: str, data: bytes) -> None:
        """A message that is not ours, or of another version, must not end the stream of all followers."""
        try:
            self._handle(channel, data)
        except Exception as error:  # noqa: BLE001 - what a follower's callback raises is its own
            log.warning(
                "A live message was not understood.",
                action="stream.skip",
                channel=channel,
                reason=repr(error),
            )

    def _handle(self, channel: str, data: bytes) -> None:
        if channel.startswith(ORG):
            self._deliver(channel.removeprefix(ORG), orjson.loads(data))
        elif channel.startswith(TASK):
            task_id = channel.removeprefix(TASK)
            message = orjson.loads(data)
            _push(self._deltas.get(task_id, ()), Tokens(task_id, message["attempt"], message["tokens"]))
        elif channel.startswith(WORKER):
            on_cancel, _ = self._workers.get(channel.removeprefix(WORKER), (None, None))
            if on_cancel is not None:
                on_cancel(data.decode())
        elif channel == ALL:
            self._gap(orjson.loads(data).get("gap"))

    def _deliver_all(self, by_org: dict[str, list[LoggedEvent]]) -> None:
        for org_id, events in by_org.items():
            self._deliver(org_id, events)

    def _deliver(self, org_id: str, events: list[LoggedEvent]) -> None:
        _push(self._orgs.get(org_id, ()), Events(events))
        by_task: dict[str, list[LoggedEvent]] = {}
        for event in events:
            if event["task_id"] in self._tasks:
                by_task.setdefault(event["task_id"], []).append(event)
        for task_id, its in by_task.items():
            _push((s for s in self._tasks[task_id] if s.org_id == org_id), Events(its))

    def _gap(self, org_ids: list[str] | None) -> None:
        """Send the followers of these organisations (None: all) a gap, upon which they read the database."""
        chosen = None if org_ids is None else set(org_ids)
        for by in (self._orgs, self._tasks):
            for subscriptions in by.values():
                _push((s for s in subscriptions if chosen is None or s.org_id in chosen), GAP)
        if chosen is None:
            for _, on_gap in self._workers.values():
                if on_gap is not None:
                    on_gap()

    def _warn(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            log.warning(
                "The live stream is away; followers read the database once a second.",
                action="stream.reconnect", reason=diagnose(error).reason,
            )  # fmt: skip


def _push(subscriptions: Iterable[Subscription], item: Item) -> None:
    for subscription in list(subscriptions):
        subscription.push(item)


def _discard(by: dict[str, set[Subscription]], key: str, subscription: Subscription) -> None:
    by[key].discard(subscription)
    if not by[key]:
        del by[key]


async def listen_worker(redis_url: str, worker_id: str, on_cancel: Callable[[str], object]) -> None:
    """Call `on_cancel` with the id of each run of this worker that is cancelled, until cancelled.

    Reconnects by itself. Orders given meanwhile are lost here; the worker learns of them from its next write.
    """
    follower = Follower(redis_url)
    await follower.start()
    end = follower.listen_worker(worker_id, on_cancel)
    try:
        await asyncio.Event().wait()
    finally:
        end()
        await follower.close()
