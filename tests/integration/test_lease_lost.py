"""A worker that was declared lost begins one new life, however many ways it learns of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from runyard import Context
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.lifecycle import Status
from tests.installation import Installation
from tests.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


async def test_a_claim_refused_to_the_former_life_does_not_end_the_new_one(postgres_url: str) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.step("one", int, 1)

    async with Installation(postgres_url) as site:
        name = site.publish(work)
        engine = await site.engine()
        former = engine.worker_id
        hold, reached = threading.Event(), threading.Event()

        def slow(tx: Tx, commands: Any) -> list[None]:
            reached.set()
            hold.wait(50)
            return [None] * len(commands)

        site.writer.submit(slow, None)
        await asyncio.to_thread(reached.wait, 10)
        engine.wake()
        await asyncio.sleep(0.1)  # the claim of the former life waits behind the slow commit
        site.transact(lambda tx: workers.mark_lost(tx, former))
        await asyncio.to_thread(wait_until, lambda: _alive(site) not in ([], [former]), seconds=20)
        (new,) = _alive(site)
        hold.set()
        task = await site.ended(await site.submit(name))
        assert task.status is Status.COMPLETED
        assert engine.worker_id == new
        assert _alive(site) == [new]


def _alive(site: Installation) -> list[str]:
    with site.store.read() as conn:
        return [worker.id for worker in workers.every(conn) if not worker.lost]
