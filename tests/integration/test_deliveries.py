"""Deliveries on both databases: what is promised, in which order, how it is retried, buried and sent again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import standardwebhooks

from common.domain.lifecycle import Status
from runyard import AgentError, Context
from tests.delivery_shop import DeliveryShop
from tests.fakes.receiver import receiving

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def greet(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    await ctx.progress(0.5, "half way")
    return {"hello": args["name"]}


async def test_an_endpoint_hears_of_every_state_in_order_signed(database_url: str) -> None:
    async with receiving() as receiver, DeliveryShop(database_url) as shop:
        endpoint, secret = shop.endpoint(receiver.url())
        shop.deliverer()
        await shop.engine()
        task = await shop.ended(await shop.submit(shop.publish(greet), {"name": "Ada"}))
        rows = await shop.settled(3, endpoint_id=endpoint)
        assert [row.state for row in rows] == ["success"] * 3
        got = receiver.received
        assert [r.json["type"] for r in got] == ["run.pending", "run.running", "run.completed"]
        assert len({r.event_id for r in got}) == 3
        for r in got:
            assert standardwebhooks.Webhook(secret).verify(r.body, r.headers) == r.json
            assert r.json["id"] == r.event_id
            assert r.attempt == 1
        last = got[-1].json["data"]
        assert (last["task_id"], last["status"], last["output"]) == (task.id, "completed", {"hello": "Ada"})
        assert last["input"]["args"] == {"name": "Ada"}
