"""A part of the worker that ends though it is wanted is started again."""

from __future__ import annotations

import asyncio

import pytest

from runyard_workers.isolation.loop_guard import RUN, LoopGuard
from runyard_workers.isolation.service import Service

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("end", ["error", "cancelled", "returned"])
async def test_a_service_that_ends_is_started_again_however_it_ended(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard_workers.isolation.service.PAUSE", 0.01)
    starts: list[int] = []
    wanted = True

    async def work() -> None:
        starts.append(1)
        if len(starts) > 2:
            await asyncio.Event().wait()
        if end == "error":
            raise RuntimeError("a bug")
        if end == "cancelled":
            raise asyncio.CancelledError

    service = Service("part", work, lambda: wanted)
    service.start()
    async with asyncio.timeout(50):
        while len(starts) < 3:  # noqa: ASYNC110 - what is counted has no event
            await asyncio.sleep(0.01)
    wanted = False
    service.cancel()
    assert await service.wait(50)
    await asyncio.sleep(0.05)
    assert len(starts) == 3


async def test_a_service_started_from_a_runs_code_does_not_belong_to_the_run() -> None:
    guard, seen = LoopGuard(), []
    guard.install(asyncio.get_running_loop())

    async def work() -> None:
        seen.append(RUN.get())

    service = Service("part", work, lambda: False)
    with guard.on_behalf_of("a"):
        service.start()
    await service.wait(50)
    assert seen == [None]
