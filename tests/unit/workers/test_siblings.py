"""Which coroutines of a run a call waits for before it suspends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from runyard_workers.isolation.siblings import Siblings

pytestmark = pytest.mark.anyio


def start(siblings: Siblings, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(coroutine)
    siblings.add(task)
    return task


async def inner() -> None:
    await asyncio.sleep(0)


async def test_a_result_passes_through_tasks_gathers_and_shields_first() -> None:
    siblings, done = Siblings(), []

    async def sibling() -> None:
        await asyncio.gather(asyncio.shield(start(siblings, inner())), inner())
        await asyncio.wait_for(asyncio.gather(inner()), 10)
        done.append("here")
        await asyncio.sleep(30)

    task = start(siblings, sibling())
    with siblings.served():
        await siblings.settle()
    assert done == ["here"]
    task.cancel()


async def test_those_that_settle_too_are_not_waited_for() -> None:
    siblings = Siblings()

    async def suspends() -> None:
        with siblings.served():
            await siblings.settle()

    tasks = [start(siblings, suspends()) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def test_a_served_call_is_waited_for_and_the_authors_code_in_it_is_not() -> None:
    siblings, order = Siblings(), []

    async def step() -> None:
        with siblings.served():
            await asyncio.sleep(0.05)
            order.append("written")
            with siblings.outside():
                await asyncio.sleep(30)

    task = start(siblings, step())
    await asyncio.sleep(0)
    with siblings.served():
        await siblings.settle()
    assert order == ["written"]
    task.cancel()


async def test_a_call_inside_an_irreversible_step_does_not_wait_for_it() -> None:
    siblings = Siblings()
    with siblings.served(), siblings.irreversible(), siblings.served():
        await asyncio.wait_for(siblings.settle(), 5)


async def test_a_coroutine_that_never_waits_is_not_waited_for_without_end() -> None:
    siblings = Siblings()

    async def spins() -> None:
        while True:  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(0)

    task = start(siblings, spins())
    with siblings.served():
        await asyncio.wait_for(siblings.settle(), 5)
    task.cancel()


async def test_thousands_that_settle_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    tasks_of = Siblings._tasks

    def counted(self: Siblings) -> set[asyncio.Task[Any]]:
        nonlocal looks
        looks += 1
        return tasks_of(self)

    monkeypatch.setattr(Siblings, "_tasks", counted)
    siblings = Siblings()

    async def suspends() -> None:
        with siblings.served():
            await siblings.settle()

    await asyncio.gather(*(start(siblings, suspends()) for _ in range(2_000)))
    assert looks < 100


async def test_another_looks_on_when_the_one_that_looked_is_cancelled() -> None:
    siblings, go_on = Siblings(), asyncio.Event()

    async def suspends() -> str:
        with siblings.served():
            await siblings.settle()
        return "settled"

    async def works() -> None:
        with siblings.served():
            await go_on.wait()

    others = start(siblings, works())
    first, *left = [start(siblings, suspends()) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    go_on.set()
    assert await asyncio.wait_for(asyncio.gather(*left), 10) == ["settled", "settled"]
    await others
