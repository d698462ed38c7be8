"""Runs through the engine, on both databases: finish, fail, replay, stops, drain, rescue."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from runyard import AgentError, BlockingContext, Context, ProviderError
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.human_tasks.service import answers
from runyard_common.human_tasks.service.answers import Decision
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import cancellations
from runyard_scheduler.duties import Admit, Rescue
from tests.installation import Installation
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_an_async_agent_runs_to_completed_with_a_gap_free_log(database_url: str) -> None:
    async def greet(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
        await ctx.progress(0.5, "half way")
        return {"hello": args["name"], "attempt": ctx.task.attempt}

    async with Installation(database_url) as site:
        name = site.publish(greet)
        await site.engine()
        task = await site.ended(await site.submit(name, {"name": "Ada"}))
        assert (task.status, task.output) == (Status.COMPLETED, {"hello": "Ada", "attempt": 1})
        assert site.events(task.id) == ["submit", "claim", "progress", "finish"]


async def test_a_plain_function_runs_in_a_thread_with_the_same_calls(database_url: str) -> None:
    def add(ctx: BlockingContext, args: dict[str, Any]) -> int:
        ctx.log("adding")
        return int(ctx.step("sum", sum, args["numbers"]))

    async with Installation(database_url) as site:
        name = site.publish(add)
        await site.engine()
        task = await site.ended(await site.submit(name, {"numbers": [1, 2, 3]}))
        assert task.output == 6
        assert site.events(task.id) == ["submit", "claim", "log", "step", "finish"]


async def test_an_agents_own_error_fails_the_run_with_its_code(database_url: str) -> None:
    async def fail(ctx: Context, args: dict[str, Any]) -> None:
        raise AgentError("no such invoice", code="invoice_missing", number=7)

    async with Installation(database_url) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(fail)))
        assert task.status is Status.FAILED
        assert task.error == {
            "code": "invoice_missing",
            "message": "no such invoice",
            "cause": "agent",
            "attempt": 1,
            "details": {"number": 7},
        }


async def test_a_provider_error_is_retried_under_its_own_budget(database_url: str) -> None:
    tries: list[int] = []

    async def flaky(ctx: Context, args: dict[str, Any]) -> str:
        tries.append(ctx.task.attempt)
        if len(tries) < 3:
            raise ProviderError("overloaded")
        return "served"

    policy = {"provider": {"budget": 3, "base_s": 0.05, "cap_s": 0.1}}
    async with Installation(database_url) as site:
        name = site.publish(flaky, retries=policy)
        await site.engine()
        task_id = await site.submit(name)
        while site.task(task_id).finished_at is None:
            await asyncio.to_thread(Admit(site.store).run_once)
            await asyncio.sleep(0.02)
        task = site.task(task_id)
        assert (task.output, tries, task.retries) == ("served", [1, 2, 3], {"provider": 2})


async def test_a_finished_step_is_never_run_again_after_its_worker_vanished(database_url: str) -> None:
    ran: Counter[str] = Counter()
    opened = asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> list[str]:
        def step(name: str) -> str:
            ran[name] += 1
            return name.upper()

        first = await ctx.step("first", step, "first")
        if ctx.task.attempt == 1:
            opened.set()
            await asyncio.sleep(30)
        return [first, await ctx.step("second", step, "second")]

    async with Installation(database_url, lease_seconds=0.5) as site:
        name = site.publish(work)
        doomed = await site.engine()
        task_id = await site.submit(name)
        await asyncio.wait_for(opened.wait(), 10)
        site.vanish(doomed)
        await site.engine(lease_seconds=60.0)  # the one that has to be lost is the first
        await _rescue_until_ended(site, task_id)
        task = site.task(task_id)
        assert (task.status, task.output, task.attempt) == (Status.COMPLETED, ["FIRST", "SECOND"], 2)
        assert ran == {"first": 1, "second": 1}
        assert "rescue" in site.events(task_id)
        assert task.retries is None, "a death alone is charged to no run"


async def test_a_crash_in_an_irreversible_step_waits_for_an_operator(database_url: str) -> None:
    booked: list[int] = []
    inside = asyncio.Event()

    async def pay(ctx: Context, args: dict[str, Any]) -> Any:
        async def book() -> str:
            booked.append(ctx.task.attempt)
            inside.set()
            if len(booked) == 1:
                await asyncio.sleep(30)
            return "booked"

        return await ctx.step("book", book, effect="irreversible")

    async with Installation(database_url, lease_seconds=0.5) as site:
        name = site.publish(pay)
        for action, result in (("skip", "booked by hand"), ("redo", "booked"), ("fail", None)):
            booked.clear()
            inside.clear()
            doomed = await site.engine()
            task_id = await site.submit(name)
            await asyncio.wait_for(inside.wait(), 10)
            site.vanish(doomed)
            await _rescue_until(site, task_id, Status.AWAITING_REVIEW)
            (review,) = site.questions(task_id)
            assert review.payload["action"] == "book"
            decision = Decision(action, result="booked by hand" if action == "skip" else None)
            site.transact(lambda tx: answers.review(tx, site.org, task_id, decision, "op"))  # noqa: B023
            engine = await site.engine()
            task = await site.ended(task_id)
            assert (task.output, task.status) == (
                result,
                Status.FAILED if action == "fail" else Status.COMPLETED,
            )
            assert len(booked) == (2 if action == "redo" else 1)
            await engine.drain(3)
            site.engines.remove(engine)


async def test_a_stop_bites_a_running_coroutine_and_its_children_and_a_late_finish_changes_nothing(
    database_url: str,
) -> None:
    async def child(ctx: Context, args: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    async with Installation(database_url) as site:
        child_name = site.publish(child)

        async def parent(ctx: Context, args: dict[str, Any]) -> None:
            await ctx.run(child_name)

        engine = await site.engine()
        task_id = await site.submit(site.publish(parent))
        await site.until(task_id, Status.QUEUED)
        site.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "no longer needed", "me"))
        assert (await site.ended(task_id)).status is Status.STOPPED
        await until(lambda: engine.running == 0)
        assert site.events(task_id)[-1] == "stop"


async def test_a_run_that_is_stopped_before_its_first_step_leaves_its_slot(database_url: str) -> None:
    async def never(ctx: Context, args: dict[str, Any]) -> None:
        raise AssertionError("it began")

    async with Installation(database_url) as site:
        engine = await site.engine()
        begin = engine._runs.begin

        def begin_and_stop(claimed: Any) -> Any:
            life = begin(claimed)
            site.transact(lambda tx: cancellations.cancel_tasks(tx, [claimed.task.id], "at once", "me"))
            engine._runs.cancel(claimed.task.id)
            return life

        engine._runs.begin = begin_and_stop  # type: ignore[method-assign]
        task = await site.ended(await site.submit(site.publish(never)))
        assert task.status is Status.STOPPED
        await until(lambda: engine.running == 0)


async def test_a_stop_bites_a_blocking_thread_at_its_next_step(database_url: str) -> None:
    steps: list[int] = []

    def busy(ctx: BlockingContext, args: dict[str, Any]) -> None:
        for number in range(3):
            ctx.step(f"step {number}", steps.append, number)
        while not ctx.stopped:
            time.sleep(0.01)
        ctx.step("step 3", steps.append, 3)

    async with Installation(database_url) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(busy))
        await until(lambda: len(steps) > 2)
        site.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "enough"))
        await until(lambda: engine.running == 0)
        assert steps == [0, 1, 2]
        assert site.task(task_id).status is Status.STOPPED


async def test_a_run_that_takes_too_long_fails_with_timeout(database_url: str) -> None:
    async def slow(ctx: Context, args: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    async with Installation(database_url) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(slow, timeout=0.1)))
        assert task.error is not None
        assert (task.error["code"], task.error["cause"]) == ("timeout", "deadline")


async def test_work_whose_time_to_live_passed_unstarted_expires(database_url: str) -> None:
    async def never(ctx: Context, args: dict[str, Any]) -> None: ...

    async with Installation(database_url) as site:
        task_id = await site.submit(site.publish(never), ttl_s=0.01)
        await asyncio.sleep(0.02)
        assert site.transact(cancellations.expire_unstarted) == 1
        error = site.task(task_id).error
        assert error is not None
        assert error["code"] == "ttl_expired"


async def test_a_drained_worker_hands_its_run_to_another_and_spends_no_budget(database_url: str) -> None:
    reached, drains = asyncio.Event(), asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> int:
        first = await ctx.step("first", lambda: 1)
        reached.set()
        await drains.wait()
        return int(first) + int(await ctx.step("second", lambda: 2))

    async with Installation(database_url) as site:
        old = await site.engine()
        task_id = await site.submit(site.publish(work))
        await asyncio.wait_for(reached.wait(), 10)
        await site.engine()
        draining = asyncio.create_task(old.drain(40))
        await until(lambda: old._runs._draining)
        drains.set()  # it comes to its next step
        await draining
        site.engines.remove(old)
        task = await site.ended(task_id)
        assert (task.output, task.attempt, task.retries) == (3, 2, None)
        assert "release" in site.events(task_id)


async def test_a_worker_declared_lost_can_write_nothing_and_begins_a_new_life(database_url: str) -> None:
    lost = asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> int:
        if ctx.task.attempt == 1:
            await lost.wait()
        return ctx.task.attempt

    async with Installation(database_url, lease_seconds=1.0) as site:
        engine = await site.engine()
        first_life = engine.worker_id
        task_id = await site.submit(site.publish(work))
        await site.until(task_id, Status.RUNNING)

        def declared_lost() -> bool:
            with site.store.begin() as tx:  # as a scheduler with a clock far ahead would
                tx.now += 60
                return workers.declare_lost(tx) == [first_life]  # none, while it is beating

        await until(declared_lost)
        await asyncio.to_thread(Rescue(site.store).run_once)
        lost.set()
        await asyncio.to_thread(Admit(site.store).run_once)
        task = await site.ended(task_id)
        assert (task.status, task.output) == (Status.COMPLETED, 2)
        assert engine.worker_id != first_life


async def test_agent_code_that_no_longer_fits_its_journal_fails_with_a_clear_error(database_url: str) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.step("old name" if ctx.task.attempt == 1 else "new name", lambda: 1)
        return await ctx.ask("Go on?")

    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(work))
        await site.until(task_id, Status.WAITING_FOR_INPUT)
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "yes", "me"))
        task = await site.ended(task_id)
        assert task.error is not None
        assert task.error["code"] == "journal_mismatch"
        assert "old name#1" in task.error["message"]


async def _rescue_until(site: Installation, task_id: str, *statuses: Status) -> None:
    end = time.monotonic() + 40
    rescue = Rescue(site.store)  # one for the whole wait: it has to have watched the database for a lease
    while site.task(task_id).status not in statuses:
        assert time.monotonic() < end, site.events(task_id)
        await asyncio.to_thread(rescue.run_once)
        await asyncio.to_thread(Admit(site.store).run_once)
        await asyncio.sleep(0.05)


async def _rescue_until_ended(site: Installation, task_id: str) -> None:
    await _rescue_until(site, task_id, Status.COMPLETED, Status.FAILED, Status.STOPPED)


async def test_a_run_whose_secrets_no_key_here_opens_fails_and_is_not_handed_back_for_ever(
    database_url: str,
) -> None:
    async def never(ctx: Context, args: dict[str, Any]) -> str:
        return "ran without its secrets"

    async with Installation(database_url) as site:
        name = site.publish(never, retries={"infrastructure": {"budget": 0}})
        await site.engine()
        elsewhere = Sealer(new_key()).seal({"token": "for another key"})
        task = await site.ended(await site.submit(name, secrets=elsewhere))
        assert task.status is Status.FAILED
        assert task.error is not None
        assert (task.error["code"], task.error["cause"]) == ("seal_broken", "infrastructure")
        assert site.events(task.id) == ["submit", "claim", "fail"]
        plain = await site.ended(await site.submit(name))  # the slot is free again
        assert plain.status is Status.COMPLETED
