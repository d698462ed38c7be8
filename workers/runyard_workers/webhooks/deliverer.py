"""The deliverer of a process: claims what is due, sends each delivery as a coroutine, settles, drains.

A wake-up, a retry that falls due, or a call that has ended wakes it. It holds no worker slot. When the process
dies, the leases of what it had under way run out, and another one sends it again, under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Final

import structlog

from runyard_common import surfaces
from runyard_common.database.group_commit import GroupCommit
from runyard_common.metrics.points import POINTS
from runyard_common.outbound import GuardedClient, Timeouts
from runyard_common.values.ids import uuid7
from runyard_common.webhooks.queries.delivery_queue import Outgoing, Settled
from runyard_common.webhooks.rules.delivery import RetrySchedule
from runyard_common.webhooks.service.deliveries import ClaimRequest, GiveBack, claim, give_back, settle
from runyard_workers.isolation.service import Service
from runyard_workers.webhooks.call import Outcome, judge, send
from runyard_workers.webhooks.hosts import Hosts
from runyard_workers.webhooks.keys import Keys
from runyard_workers.webhooks.spans import of_delivery

logger = structlog.get_logger("runyard.deliveries")

TIMEOUTS: Final = Timeouts(connect=5.0, read=15.0, total=15.0)
#: What a lease lasts beyond the call itself, in seconds: for taking it up and for settling.
SLACK: Final = 5.0
#: How long it sleeps at most: a busy worker takes no wake-ups, so it looks for itself.
LOOK_EVERY: Final = 2.0


class Deliverer:
    """Create it on the loop, `start()` it, `drain()` it. It does not close its client."""

    def __init__(
        self,
        writer: GroupCommit,
        client: GuardedClient,
        keys: Keys,
        *,
        schedules: Mapping[str, RetrySchedule] | None = None,
        timeouts: Timeouts = TIMEOUTS,
        hosts: Hosts | None = None,
    ) -> None:
        self.owner = uuid7()
        self._writer = writer
        self._client = client
        self._keys = keys
        styles = surfaces.webhook_styles().items()
        self._schedules = schedules or {name: style.retries for name, style in styles}
        self._timeouts = timeouts
        self._lease = timeouts.total + SLACK
        self._clock = writer.clock.now  # receivers compare a signature's time with their own
        self._hosts = hosts or Hosts(clock=self._clock)
        self._rng = Random()
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._claimer = Service("deliverer", self._claim_forever, lambda: not self._draining)
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._unsent: set[str] = set()
        self._after = ""
        self._draining = False

    def start(self) -> None:
        """Begin to claim."""
        self._claimer.start()

    def wake(self) -> None:
        """Something is due. Call it on the loop."""
        self._wanted.set()

    def wake_threadsafe(self) -> None:
        """Something is due. Call it from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wanted.set)

    @property
    def draining(self) -> bool:
        """Whether it claims no more."""
        return self._draining

    @property
    def under_way(self) -> int:
        """Deliveries taken and not yet settled."""
        return len(self._calls)

    async def drain(self, seconds: float) -> None:
        """Claim no more; finish what is under way within `seconds`, give back what was not sent."""
        self._draining = True
        self._wanted.set()
        await self._claimer.wait(None)
        for id_ in list(self._unsent):
            self._calls[id_].cancel()
        if self._calls:
            await asyncio.wait(list(self._calls.values()), timeout=max(0.0, seconds))
        for call in list(self._calls.values()):
            call.cancel()
        if self._calls:
            await asyncio.wait(list(self._calls.values()), timeout=1.0)
        await self._give_back(tuple(self._calls))  # cancelled before they began

    async def _claim_forever(self) -> None:
        while not self._draining:
            self._wanted.clear()
            try:
                wait = await self._claim_once()
            except Exception as error:  # noqa: BLE001 - the database is away; the deliveries wait in it
                logger.warning(
                    "Deliveries could not be claimed; trying again",
                    action="claim_deliveries",
                    error=str(error)[:300],
                )
                wait = 1.0
            try:
                async with asyncio.timeout(wait):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _claim_once(self) -> float:
        """Claim what is due and start sending it; when to look again, in seconds."""
        request = ClaimRequest(self.owner, self._lease, self._keys, self._hosts.allowance(), self._after)
        claimed = await self._writer.call(claim, request)
        self._after = claimed.after
        for sent in claimed.outgoing:  # also when a drain began meanwhile: it gives back what has not gone
            self._hosts.begin((sent.org_id, sent.host), sent.id)
            self._unsent.add(sent.id)
            self._calls[sent.id] = self._loop.create_task(self._deliver(sent), name=f"deliver-{sent.id}")
        waits = (LOOK_EVERY, claimed.wait_s, self._hosts.wait_s())
        return min(wait for wait in waits if wait is not None)

    async def _deliver(self, sent: Outgoing) -> None:
        key = (sent.org_id, sent.host)
        outcome: Outcome | None = None
        try:
            await asyncio.sleep(sent.wait_s)
            self._unsent.discard(sent.id)
            with of_delivery(sent) as span:
                outcome = await send(self._client, self._keys, sent, self._timeouts, self._clock)
                span.set(http__response__status_code=outcome.status)
                if outcome.status is None or outcome.status >= 300:
                    span.fail(outcome.error or str(outcome.status))
        finally:
            if outcome is None:
                self._hosts.end(key, sent.id)
                await self._give_back((sent.id,))
            else:
                self._hosts.end(key, sent.id, status=outcome.status, error=outcome.error)
                await self._settle(sent, outcome)
            self._unsent.discard(sent.id)
            self._calls.pop(sent.id, None)
            self._wanted.set()

    async def _settle(self, sent: Outgoing, outcome: Outcome) -> None:
        """Record the attempt; a database that is away is asked again for as long as the lease may last."""
        if outcome.backoff_s > 0:
            self._hosts.hold(sent.receiver, outcome.backoff_s)
        schedule = self._schedules.get(sent.style, self._schedules["native"])
        settled = judge(sent, outcome, self.owner, schedule, self._rng, self._clock())
        for pause in (0.2, 1.0, 2.0, None):
            try:
                recorded = self._writer.submit(settle, settled)
                self._wanted.set()  # already: the next claim then shares this commit
                disabled = await asyncio.wrap_future(recorded)
                self._log(settled, disabled)
                return
            except Exception as error:  # noqa: BLE001 - the lease covers for it: it is sent again
                logger.warning(
                    "A delivery could not be settled",
                    action="settle",
                    delivery=sent.id,
                    error=str(error)[:300],
                )
            if pause is None:
                return
            await asyncio.sleep(pause)

    async def _give_back(self, ids: tuple[str, ...]) -> None:
        if not ids:
            return
        try:
            await asyncio.shield(self._writer.call(give_back, GiveBack(self.owner, ids)))
        except Exception as error:  # noqa: BLE001 - their leases run out
            logger.warning("Deliveries could not be given back", action="give_back", error=str(error)[:300])

    def _log(self, settled: Settled, disabled: str | None) -> None:
        sent = settled.sent
        if (note := POINTS.delivered) is not None:
            called = settled.latency_ms is not None
            note(
                sent.endpoint_id is not None,
                settled.state,
                (settled.latency_ms or 0) / 1000 if called else None,
            )
        if settled.state == "dead":
            logger.warning(
                "A delivery is dead; it can be sent again by hand",
                action="mark_dead",
                delivery=sent.id,
                endpoint=sent.endpoint_id,
                task=sent.task_id,
                host=sent.host,
                attempt=sent.attempt,
                error=settled.error,
            )
        if disabled is not None:
            logger.warning(
                "A webhook endpoint was switched off",
                action="disable",
                endpoint=sent.endpoint_id,
                reason=disabled,
            )
