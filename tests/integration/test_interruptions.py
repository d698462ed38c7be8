"""What interrupts an agent's code, and what does not: shields around a block, heartbeats of code that blocks."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from runyard import BlockingContext, Cancelled, Context, agent
from runyard.testing import run
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import cancellations
from tests import process_agents
from tests.installation import Installation
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)
PROCESSES = process_agents.__name__  # imported: its agents are declared


def _cancel(site: Installation, task_id: str) -> None:
    site.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "enough", "test"))


@pytest.mark.anyio
@pytest.mark.parametrize("isolation", ["loop", "thread"])
async def test_a_shielded_block_ends_before_its_run_is_interrupted(isolation: str, database_url: str) -> None:
    done: list[str] = []
    began: list[Context] = []
    go_on = threading.Event()

    async def shielded(ctx: Context, args: dict[str, Any]) -> None:
        try:
            async with ctx.shield(30):
                began.append(ctx)
                await asyncio.to_thread(go_on.wait, 60)
                done.append("block")
            done.append("after")
        finally:
            done.append("left")

    async with Installation(database_url) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(shielded, isolation=isolation))
        await until(lambda: began)
        _cancel(site, task_id)
        assert site.task(task_id).status is Status.STOPPED, "the status does not wait"
        await until(lambda: began[0].cancelled)
        assert done == []
        go_on.set()
        await until(lambda: engine.running == 0)
        assert done == ["block", "left"]


@pytest.mark.anyio
async def test_code_that_prints_after_its_cancellation_is_interrupted_all_the_same(database_url: str) -> None:
    began, go_on, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def prints(ctx: Context, args: dict[str, Any]) -> None:
        began.set()
        try:
            await go_on.wait()
            print(
                "on the way"
            )  # stored beside the code, before its worker's heartbeat finds the cancellation
            await asyncio.Event().wait()
        finally:
            left.set()

    async with Installation(database_url) as site:
        await site.engine()
        site.recorder.on_cancel = lambda worker_id, task_id: None  # Redis is away
        task_id = await site.submit(site.publish(prints))
        await began.wait()
        _cancel(site, task_id)
        go_on.set()
        await asyncio.wait_for(left.wait(), 40)


@pytest.mark.anyio
async def test_a_shield_has_an_end(database_url: str) -> None:
    began, left = asyncio.Event(), asyncio.Event()

    async def shielded(ctx: Context, args: dict[str, Any]) -> None:
        try:
            async with ctx.shield(0.2):
                began.set()
                await asyncio.sleep(600)
        finally:
            left.set()

    async with Installation(database_url) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(shielded))
        await asyncio.wait_for(began.wait(), 20)
        _cancel(site, task_id)
        await asyncio.wait_for(left.wait(), 20)
        await until(lambda: engine.running == 0)


def test_a_time_limit_waits_for_a_shield() -> None:
    done: list[str] = []

    @agent("@interrupted/late", timeout=600.0)
    async def late(ctx: Context, args: Any) -> None:
        async with ctx.shield():
            async with ctx.shield():
                attempt = ctx._attempt  # type: ignore[attr-defined]
                attempt.ends_at, attempt.interruptions._limit_at = time.monotonic(), time.monotonic()
                await until(lambda: ctx.cancelled)  # its time is over
            done.append("block")
        done.append("after")

    result = run(late)
    assert result.error is not None
    assert (result.error["code"], done) == ("timeout", ["block"])


def test_a_shield_longer_than_a_minute_is_refused() -> None:
    @agent("@interrupted/long")
    async def long(ctx: Context, args: Any) -> None:
        async with ctx.shield(61):
            pass

    error = run(long).error
    assert error is not None
    assert error["code"] == "invalid_call"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["plain agent", "plain step"])
async def test_blocking_code_learns_by_its_heartbeat_that_its_run_was_cancelled(
    kind: str, database_url: str
) -> None:
    began, left = threading.Event(), threading.Event()

    def work(ctx: Context | BlockingContext) -> None:
        try:
            while True:
                ctx.heartbeat()
                began.set()
                time.sleep(0.01)
        except Cancelled:
            left.set()
            raise

    def plain(ctx: BlockingContext, args: dict[str, Any]) -> None:
        work(ctx)

    async def with_a_step(ctx: Context, args: dict[str, Any]) -> None:
        await ctx.step("work", work, ctx)

    async with Installation(database_url) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(plain if kind == "plain agent" else with_a_step))
        await until(began.is_set)
        _cancel(site, task_id)
        await until(left.is_set)
        await until(lambda: engine.running == 0)
        assert site.task(task_id).status is Status.STOPPED


def test_code_whose_next_heartbeat_does_not_come_fails_and_may_be_tried_again() -> None:
    @agent("@interrupted/stalls", retries=1)
    async def stalls(ctx: Context, args: Any) -> str:
        ctx.heartbeat(within=60)
        if ctx.task.attempt == 1:
            ctx.heartbeat(within=0.1)
            await asyncio.sleep(600)
        ctx.heartbeat()  # none is awaited from here on
        return "done"

    result = run(stalls)
    assert (result.output, result.attempts) == ("done", 2)
    assert [e["error"]["code"] for e in result.of_type("retry")] == ["heartbeat_missed"]


@pytest.mark.parametrize("name", ["stalls", "stalls_plainly"])
def test_a_process_that_misses_its_heartbeat_is_ended(name: str) -> None:
    error = run(f"@process/{name}", processes=True).error
    assert error is not None
    assert error["code"] == "heartbeat_missed"
