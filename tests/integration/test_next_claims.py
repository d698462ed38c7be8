"""A worker whose slots are full claims its next runs in the transactions in which others end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from runyard import Context
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import events
from tests.installation import Installation

pytestmark = pytest.mark.anyio


async def _noop(ctx: Context, args: dict[str, Any]) -> None:
    await asyncio.sleep(0)


def _moments(site: Installation, task_id: str) -> dict[str, float]:
    """When each event of a task was, on the clock of its transaction."""
    with site.store.read() as conn:
        return {e["type"]: e["at"] for e in events.after(OrgScope(conn, site.org), task_id, 0, 100)}


async def test_the_next_runs_are_claimed_with_the_end_of_those_before(database_url: str) -> None:
    async with Installation(database_url) as site:
        name = site.publish(_noop)
        ids = [await site.submit(name) for _ in range(6)]
        await site.engine(capacity=1)
        for task_id in ids:
            await site.ended(task_id)
        found = [_moments(site, task_id) for task_id in ids]
        ends = {one["finish"] for one in found}
        # With more slots, an end that comes while a claim is under way has its slot claimed for after it.
        assert all(one["claim"] in ends for one in found[1:])


async def test_no_more_runs_than_slots_are_under_way(database_url: str) -> None:
    under_way = most = 0

    async def _counts(ctx: Context, args: dict[str, Any]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * args["n"])
        under_way -= 1

    async with Installation(database_url) as site:
        name = site.publish(_counts)
        ids = [await site.submit(name, {"n": n % 5}) for n in range(30)]
        await site.engine(capacity=3)
        for task_id in ids:
            await site.ended(task_id)
        assert most <= 3


async def test_a_run_whose_thread_is_busy_gives_no_slot_to_the_next(database_url: str) -> None:
    go_on = threading.Event()

    async def _leaves_a_thread(ctx: Context, args: dict[str, Any]) -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(30)

        left = asyncio.ensure_future(ctx.step("wait", wait))
        await begun.wait()
        left.cancel()

    async with Installation(database_url) as site:
        stuck, plain = site.publish(_leaves_a_thread), site.publish(_noop)
        first = await site.submit(stuck)
        second = await site.submit(plain)
        await site.engine(capacity=1)
        await site.ended(first)
        assert site.task(second).attempt == 0
        go_on.set()
        await site.ended(second)
