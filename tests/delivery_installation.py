"""An installation that delivers: endpoints, callbacks and a deliverer in the test's process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import insert, select

from runyard_api.surfaces.appstrate.surface import RETRIES as APPSTRATE
from runyard_common.database.group_commit import GroupCommit
from runyard_common.outbound import GuardedClient, OutboundPolicy, Timeouts
from runyard_common.runs.rules.specs import CallbackTo
from runyard_common.tables.query import Delivery, Organisation
from runyard_common.webhooks.rules.delivery import NATIVE, RetrySchedule
from runyard_common.webhooks.service import endpoints
from runyard_common.webhooks.service.endpoints import EndpointRequest
from runyard_workers.webhooks import Deliverer, Keys
from runyard_workers.webhooks.hosts import Hosts
from tests.installation import Installation, Recorder

#: As many attempts as the native schedule has, within three seconds.
QUICK = replace(NATIVE, gaps=(0.005, 0.03, 0.12, 0.3) * 3, longest_wait=2.0)
SCHEDULES: Mapping[str, RetrySchedule] = {
    "native": QUICK,
    "appstrate": replace(APPSTRATE, gaps=QUICK.gaps[:7]),
}
#: Attempts until the test lets one succeed.
PATIENT: Mapping[str, RetrySchedule] = {"native": replace(NATIVE, gaps=(0.05,) * 2_000, longest_wait=2.0)}
POLICY = OutboundPolicy(allow_private=True)


class DeliveryRecorder(Recorder):
    """Wakes the deliverers of the installation."""

    def __init__(self) -> None:
        super().__init__()
        self.deliverers: list[Deliverer] = []

    def notify_deliveries(self) -> None:
        for deliverer in self.deliverers:
            deliverer.wake_threadsafe()


@dataclass
class DeliveryInstallation(Installation):
    """Use as `async with DeliveryInstallation(url) as site`."""

    recorder: DeliveryRecorder = field(default_factory=DeliveryRecorder)
    timeouts: Timeouts = field(default_factory=Timeouts)
    schedules: Mapping[str, RetrySchedule] = field(default_factory=lambda: SCHEDULES)
    writers: list[GroupCommit] = field(default_factory=list)

    async def __aenter__(self) -> DeliveryInstallation:
        await super().__aenter__()
        self.keys = Keys(self.sealer, "https://runyard.example")
        self.client = GuardedClient(POLICY)
        self.transact(
            lambda tx: tx.conn.execute(
                insert(Organisation),
                {"id": self.org, "name": "test", "weight": 1.0, "active": True, "created_at": tx.now},
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for deliverer in self.recorder.deliverers:
            await deliverer.drain(1.0)
        for writer in self.writers:
            await asyncio.to_thread(writer.close)
        await self.client.aclose()
        await super().__aexit__(*_)

    def deliverer(self, hosts: Hosts | None = None, own_writer: bool = False) -> Deliverer:
        """Start another deliverer; `apart` with transactions of its own, as in another process."""
        writer = GroupCommit(self.store) if own_writer else self.writer
        self.writers += [writer] if own_writer else []
        made = Deliverer(
            writer, self.client, self.keys, schedules=self.schedules, timeouts=self.timeouts, hosts=hosts
        )
        made.start()
        self.recorder.deliverers.append(made)
        return made

    def vanish_deliverer(self, deliverer: Deliverer) -> None:
        """The deliverer dies as by SIGKILL: it settles nothing, gives nothing back."""
        self.recorder.deliverers.remove(deliverer)
        deliverer._draining = True
        deliverer._writer = _Gone()  # type: ignore[assignment]
        for task in deliverer._calls.values():
            task.cancel()
        deliverer._claimer.cancel()

    def endpoint(self, url: str, **options: Any) -> tuple[str, str]:
        """Make an endpoint; its id and its secret."""
        wanted = EndpointRequest(url, **options)
        made = self.transact(lambda tx: endpoints.create(tx, self.org, wanted, self.sealer, POLICY, "test"))
        return made.endpoint.id, made.secret

    def callback(self, url: str, headers: Mapping[str, str] | None = None) -> CallbackTo:
        """For `submit(…, callback=…)`."""
        return CallbackTo(url, self.sealer.seal(dict(headers)) if headers else None)

    def deliveries(self, **equal: Any) -> list[Any]:
        """Delivery rows, oldest first."""
        query = select(*Delivery.__table__.c).order_by(Delivery.created_at, Delivery.order_seq, Delivery.id)
        for name, value in equal.items():
            query = query.where(getattr(Delivery, name) == value)
        with self.store.read() as conn:
            return list(conn.execute(query))

    async def settled(self, count: int | None = None, seconds: float = 45.0, **equal: Any) -> list[Any]:
        """The deliveries, once none of them is pending and there are `count`."""

        def done() -> bool:
            rows = self.deliveries(**equal)
            enough = len(rows) == count if count is not None else bool(rows)
            return enough and all(row.state != "pending" for row in rows)

        await self.eventually(done, seconds)
        return self.deliveries(**equal)

    async def eventually(self, condition: Callable[[], Any], seconds: float = 45.0) -> None:
        """Wait until `condition` holds."""
        end = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < end, [
                (r.event_type, r.state, r.attempt, r.error) for r in self.deliveries()
            ]
            await asyncio.sleep(0.02)


class _Gone:
    """The writer of a process that is gone."""

    async def call(self, *_: Any) -> Any:
        await asyncio.Event().wait()

    def submit(self, *_: Any) -> Future[Any]:
        return Future()
