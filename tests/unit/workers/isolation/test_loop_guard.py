"""Runs share a loop: the guard knows which one executes, and none can cancel what is not its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from runyard_workers.isolation.loop_guard import RUN, LoopGuard


def _loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    import uvloop

    return [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=_loops(), ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    def go(work: Callable[[LoopGuard], Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            guard = LoopGuard()
            guard.install(runner.get_loop())
            return runner.run(work(guard))

    return go


def test_the_run_whose_code_executes_is_known_and_between_its_steps_none_is(run: Any) -> None:
    async def work(guard: LoopGuard) -> list[str | None]:
        seen: list[str | None] = []

        async def child() -> None:
            seen.append(guard.executing)

        async def agent() -> None:
            seen.append(guard.executing)
            await asyncio.sleep(0)
            await asyncio.create_task(child())

        with guard.on_behalf_of("a"):
            one = asyncio.create_task(agent())
        with guard.on_behalf_of("b"):
            two = asyncio.create_task(agent())
        await asyncio.gather(one, two)
        return [*seen, guard.executing]

    assert run(work) == ["a", "b", "a", "b", None]


def test_a_run_that_cancels_every_task_ends_itself_alone(run: Any) -> None:
    async def work(guard: LoopGuard) -> tuple[bool, str, str]:
        async def neighbour() -> str:
            await asyncio.sleep(0.05)
            return "neighbour"

        async def harmful() -> None:
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(10)

        engine = asyncio.create_task(neighbour())
        with guard.on_behalf_of("a"):
            other = asyncio.create_task(neighbour())
        with guard.on_behalf_of("b"):
            guilty = asyncio.create_task(harmful())
        await asyncio.wait([guilty], timeout=5)
        return guilty.cancelled(), await engine, await other

    assert run(work) == (True, "neighbour", "neighbour")


def test_what_a_run_starts_itself_it_may_cancel_and_so_may_the_engine(run: Any) -> None:
    async def work(guard: LoopGuard) -> tuple[bool, bool, str | None]:
        async def agent() -> bool:
            child = asyncio.create_task(asyncio.sleep(10))
            child.cancel()
            await asyncio.wait([child])
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(10)
            except TimeoutError:
                pass
            with anyio.move_on_after(0.01):
                await anyio.sleep(10)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 10)
                group.cancel_scope.cancel()
            return child.cancelled()

        async def long() -> None:
            await asyncio.sleep(10)

        with guard.on_behalf_of("a"):
            mine, doomed = asyncio.create_task(agent()), asyncio.create_task(long())
        await asyncio.sleep(0)
        doomed.cancel()
        await asyncio.wait([doomed])
        return await mine, doomed.cancelled(), RUN.get()

    assert run(work) == (True, True, None)
