"""The relay: what waits unclaimed is notified of again, without a row of its own; rows of earlier versions go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from runyard import Context
from runyard_common.tables.query import Outbox
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Relay
from tests.installation import Installation, Recorder

pytestmark = pytest.mark.anyio


async def greet(ctx: Context, args: dict[str, Any]) -> str:
    """Greets."""
    return "hello"


def outbox_rows(site: Installation) -> int:
    with site.store.read() as conn:
        return int(conn.execute(select(func.count()).select_from(Outbox)).scalar_one())


async def test_an_accepted_run_is_its_own_outbox(database_url: str) -> None:
    async with Installation(database_url) as site:
        broker = Recorder()
        relay = Relay(site.store, broker)
        task = site.task(await site.submit(site.publish(greet), {}))
        assert outbox_rows(site) == 0
        # It has only just been notified of.
        assert await asyncio.to_thread(relay.run_once, task.created_at + 0.1) == 0
        assert broker.rings == 0
        assert await asyncio.to_thread(relay.run_once, task.created_at + 3) == 1
        assert broker.rings == 1


async def test_wake_ups_that_an_earlier_version_wrote_are_sent_and_deleted(database_url: str) -> None:
    async with Installation(database_url) as site:
        broker = Recorder()
        relay = Relay(site.store, broker)
        row = {"topic": "wake", "payload": {"count": 1}}
        with site.store.begin() as tx:
            old, young = tx.now - 10, tx.now + 3600
            tx.conn.execute(insert(Outbox), [{"id": uuid7(), "at": at} | row for at in (old, old, young)])
        await asyncio.to_thread(relay.run_once)
        assert (broker.rings, outbox_rows(site)) == (1, 1)  # the young one is its writer's
        await asyncio.to_thread(relay.run_once)
        assert broker.rings == 1
