"""What an agent's function returns in a thread, once nothing waits for it any more."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runyard_workers.agent_code import awaited


async def work() -> int:
    return 1


@pytest.mark.anyio
@pytest.mark.parametrize("ends_first", [True, False], ids=["before its caller left", "after"])
async def test_a_coroutine_that_a_thread_returns_to_nobody_is_closed(ends_first: bool) -> None:
    begun, goes_on, made = threading.Event(), threading.Event(), list[Coroutine[Any, Any, int]]()

    def returns_a_coroutine() -> Coroutine[Any, Any, int]:
        begun.set()
        goes_on.wait()
        made.append(work())
        return made[0]

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(returns_a_coroutine)
        caller = asyncio.ensure_future(awaited.result_of(future))
        await asyncio.sleep(0)  # it waits
        begun.wait()
        if ends_first:
            goes_on.set()
            assert future.result() is made[0]  # which the loop does not know yet
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        goes_on.set()
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
