"""What a worker keeps in memory for a run that waits."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from runyard import Context
from tests.installation import Installation

pytestmark = pytest.mark.anyio

RUNS = 100
#: Bytes of a run: about 9,000, of which what the tests' stand-in for Redis keeps is a part.
MOST = 12_000


@contextmanager
def _traced() -> Generator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


async def test_a_waiting_run_takes_a_few_kilobytes(database_url: str) -> None:
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def _waits(ctx: Context, args: dict[str, Any]) -> None:
        begun.release()
        await go_on.wait()

    async def begin(site: Installation, name: str) -> list[str]:
        ids = [await site.submit(name, {"n": n}) for n in range(RUNS)]
        for _ in ids:
            await begun.acquire()
        return ids

    async with Installation(database_url, capacity=2 * RUNS) as site:
        name = site.publish(_waits)
        await site.engine()
        ids = await begin(site, name)  # makes what all runs share
        with _traced():
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            ids += await begin(site, name)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        go_on.set()
        for task_id in ids:
            await site.ended(task_id)
        assert (after - before) / RUNS < MOST
