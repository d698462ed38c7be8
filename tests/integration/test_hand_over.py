"""No run is lost at a hand-over: drains, retirements, runs without an owner, and what is handed back too often."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text
from sqlalchemy.exc import DBAPIError

from runyard import BlockingContext, Context
from runyard_common.database.transaction import Tx
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import attempts
from runyard_common.tables.query import Worker
from runyard_scheduler.duties import Admit, Rescue
from tests.installation import Installation
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_claim_that_commits_after_the_drain_began_is_handed_back(database_url: str) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> int:
        return ctx.task.attempt

    async with Installation(database_url) as site:
        name = site.publish(work)
        engine = await site.engine()
        hold, reached = threading.Event(), threading.Event()

        def slow(
            tx: Tx, commands: Any
        ) -> list[None]:  # a commit that takes its time: the claim waits behind it
            reached.set()
            hold.wait(50)
            return [None] * len(commands)

        site.writer.submit(slow, None)
        await asyncio.to_thread(reached.wait, 10)
        specs = [site.spec(name) for _ in range(5)]
        submitted = [
            asyncio.create_task(asyncio.to_thread(_submit_concurrently, site, spec)) for spec in specs
        ]
        if site.db.is_postgres:  # on SQLite the slow commit is the one writer
            await asyncio.gather(*submitted)
        engine.wake()
        await asyncio.sleep(0.1)  # the claim is in the queue
        draining = asyncio.create_task(engine.drain(10.0))
        await asyncio.sleep(0.1)
        hold.set()
        await draining
        await asyncio.gather(*submitted)
        site.engines.remove(engine)
        for spec in specs:
            assert site.task(spec.task_id).status in (Status.PENDING, Status.QUEUED), site.events(
                spec.task_id
            )
        with site.store.read() as conn:
            assert workers.every(conn) == []
        await site.engine()
        for spec in specs:
            task = await site.ended(spec.task_id)
            assert task.status is Status.COMPLETED
            assert task.retries is None


def _submit_concurrently(site: Installation, spec: Any) -> None:
    """As another process would: not through this one's group commit."""
    from runyard_common.runs.service import submissions

    site.transact(lambda tx: submissions.submit(tx, [spec]))


async def test_a_worker_row_stays_while_a_running_task_names_it(database_url: str) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    async with Installation(database_url) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(work))
        await site.until(task_id, Status.RUNNING)
        assert not site.transact(lambda tx: workers.retire(tx, engine.worker_id))
        with site.store.read() as conn:
            assert [w.id for w in workers.every(conn)] == [engine.worker_id]


async def test_a_run_that_does_not_end_in_a_drain_is_handed_on_at_no_cost(database_url: str) -> None:
    release = threading.Event()

    def stubborn(ctx: BlockingContext, args: dict[str, Any]) -> int:
        if ctx.task.attempt == 1:
            while not release.is_set():
                try:
                    release.wait(50)
                except BaseException:  # noqa: BLE001 - an agent that lets nothing end it
                    continue
        return ctx.task.attempt

    async def deaf(ctx: Context, args: dict[str, Any]) -> int:
        while ctx.task.attempt == 1 and not release.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        return ctx.task.attempt

    async with Installation(database_url) as site:
        engine = await site.engine()
        names = [site.publish(stubborn), site.publish(deaf)]
        ids = [await site.submit(name) for name in names]
        for task_id in ids:
            await site.until(task_id, Status.RUNNING)
        await engine.drain(4.0)
        site.engines.remove(engine)
        for task_id in ids:
            assert site.task(task_id).status is not Status.RUNNING
        release.set()
        await site.engine()
        await asyncio.to_thread(Admit(site.store).run_once)
        for task_id in ids:
            task = await site.ended(task_id)
            assert (task.status, task.output, task.retries) == (Status.COMPLETED, 2, None)


async def test_runs_whose_worker_has_no_row_are_handed_on(database_url: str) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> int:
        if ctx.task.attempt == 1:
            await asyncio.sleep(30)
        return ctx.task.attempt

    async with Installation(database_url) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(work))
        await site.until(task_id, Status.RUNNING)
        site.vanish(engine)
        site.transact(
            lambda tx: tx.conn.execute(delete(Worker))
        )  # as a version before this one may have done
        assert await asyncio.to_thread(Rescue(site.store).run_once) == 1
        await asyncio.to_thread(Admit(site.store).run_once)
        await site.engine()
        task = await site.ended(task_id)
        assert (task.status, task.output, task.retries) == (Status.COMPLETED, 2, None)


async def test_a_run_handed_back_without_progress_again_and_again_fails_with_the_reason(
    database_url: str,
) -> None:
    async def never(ctx: Context, args: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    async with Installation(database_url) as site:
        task_id = await site.submit(site.publish(never))
        engine = await site.engine()
        for _ in range(attempts.MOST_RELEASES + 1):
            task = await site.until(task_id, Status.RUNNING)
            site.transact(
                lambda tx: attempts.release(tx, [attempts.Release(task_id, task.fence, "orphaned")])  # noqa: B023
            )
            engine.cancel_run(task_id, "lost")
            await asyncio.to_thread(Admit(site.store).run_once)
        task = await site.ended(task_id)
        assert task.status is Status.FAILED
        assert task.error is not None
        assert task.error["code"] == "no_progress"
        assert "orphaned" in task.error["message"]


async def test_a_drain_may_hand_a_run_back_as_often_as_it_likes(database_url: str) -> None:
    async def slow(ctx: Context, args: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    async with Installation(database_url) as site:
        task_id = await site.submit(site.publish(slow))
        for _ in range(attempts.MOST_RELEASES + 2):
            engine = await site.engine()
            await site.until(task_id, Status.RUNNING)
            await engine.drain(3.05)
            site.engines.remove(engine)
            await asyncio.to_thread(Admit(site.store).run_once)
        task = site.task(task_id)
        assert task.status in (Status.PENDING, Status.QUEUED)
        assert (task.retries, task.releases) == (None, 0)


async def test_a_retried_run_that_completes_shows_no_error(database_url: str) -> None:
    async def flaky(ctx: Context, args: dict[str, Any]) -> int:
        if ctx.task.attempt < 3:
            raise ValueError(f"attempt {ctx.task.attempt}")
        return ctx.task.attempt

    async with Installation(database_url) as site:
        await site.engine()
        name = site.publish(flaky, retries={"agent": {"budget": 2, "base_s": 0.0}})
        task_id = await site.submit(name)
        await _admit_until_ended(site, task_id)
        task = site.task(task_id)
        assert (task.status, task.output, task.error) == (Status.COMPLETED, 3, None)
        assert task.retries == {"agent": 2}


async def test_a_run_that_declares_retries_is_recovered_from_its_workers_death(database_url: str) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> int:
        if ctx.task.attempt == 1:
            await asyncio.sleep(30)
        return ctx.task.attempt

    async with Installation(database_url, lease_seconds=0.5) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(work, retries=2))
        await site.until(task_id, Status.RUNNING)
        site.vanish(engine)
        await site.engine(lease_seconds=60.0)  # the one that has to be lost is the first
        await _admit_until_ended(site, task_id, Rescue(site.store))
        task = site.task(task_id)
        assert (task.status, task.output) == (Status.COMPLETED, 2)


async def test_messages_taken_in_by_a_call_that_never_saw_the_answer_are_not_lost(database_url: str) -> None:
    sent, asked = asyncio.Event(), asyncio.Event()

    async def listen(ctx: Context, args: dict[str, Any]) -> list[Any]:
        asked.set()
        if ctx.task.attempt == 1:
            await sent.wait()
            await ctx.messages()
            await asyncio.sleep(30)  # the process dies here
        return await ctx.messages()

    async with Installation(database_url, lease_seconds=0.5) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(listen))
        await asyncio.wait_for(asked.wait(), 50)
        site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "hello", "me"))
        sent.set()
        await until(lambda: [e.name for e in site.journal(task_id)] == ["messages"])
        site.vanish(engine)
        await site.engine(lease_seconds=60.0)
        await _admit_until_ended(site, task_id, Rescue(site.store))
        assert site.task(task_id).output == ["hello"]


async def test_a_run_that_swallows_its_cancellation_fails_at_its_timeout_all_the_same(
    database_url: str,
) -> None:
    over = asyncio.Event()

    async def deaf(ctx: Context, args: dict[str, Any]) -> None:
        while not over.is_set():
            try:
                await asyncio.sleep(0.05)
            except BaseException:  # noqa: BLE001 - an agent that lets nothing end it
                continue

    async with Installation(database_url, lease_seconds=1.0) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(deaf, timeout=0.5))
        task = await site.ended(task_id)
        assert task.status is Status.FAILED
        assert task.error is not None
        assert (task.error["code"], task.attempt) == ("timeout", 1)
        assert engine.running == 1, "its code holds its slot until it ends"
        over.set()
        await until(lambda: engine.running == 0)


async def test_a_step_right_after_a_swallowed_timeout_is_not_done(database_url: str) -> None:
    done: list[str] = []

    async def deaf_once(ctx: Context, args: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await ctx.step("late", done.append, "late")

    async with Installation(database_url) as site:
        await site.engine()
        task = await site.ended(await site.submit(site.publish(deaf_once, timeout=0.3)))
        assert task.error is not None
        assert (task.status, task.error["code"], done) == (Status.FAILED, "timeout", [])


async def _admit_until_ended(site: Installation, task_id: str, *duties: Any) -> None:
    async with asyncio.timeout(40):
        while site.task(task_id).finished_at is None:
            for duty in (*duties, Admit(site.store)):
                await asyncio.to_thread(duty.run_once)
            await asyncio.sleep(0.05)


async def test_workers_that_a_full_disk_kept_from_writing_have_a_lease_to_be_heard(home: Path) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> int:
        if ctx.task.attempt == 1:
            await asyncio.sleep(30)
        return ctx.task.attempt

    async with Installation(f"sqlite:///{home}/runyard.db", lease_seconds=1) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(work))
        await site.until(task_id, Status.RUNNING)
        refused = "BEFORE UPDATE ON workers BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        site.transact(lambda tx: tx.conn.execute(text(f"CREATE TRIGGER full_disk {refused}")))
        site.vanish(engine)
        rescue = Rescue(site.store)
        await until(lambda: _refused(rescue))
        site.transact(lambda tx: tx.conn.execute(text("DROP TRIGGER full_disk")))
        assert await asyncio.to_thread(rescue.run_once) == 0
        assert site.task(task_id).status is Status.RUNNING
        await until(lambda: rescue.run_once() == 1)


def _refused(rescue: Rescue) -> bool:
    try:
        rescue.run_once()
    except DBAPIError:
        return True
    return False


async def test_a_worker_that_leaves_claims_nothing_more_and_lets_its_runs_end_at_their_first_attempt(
    database_url: str,
) -> None:
    go_on, started = asyncio.Event(), asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> int:
        await ctx.step("first", started.set)
        await go_on.wait()
        await ctx.step("last", lambda: None)
        return ctx.task.attempt

    async with Installation(database_url) as site:
        name = site.publish(work)
        engine = await site.engine()
        first = await site.submit(name)
        await started.wait()
        left = asyncio.Event()
        leaving = asyncio.create_task(engine.leave(left.set))
        await left.wait()
        second = await site.submit(name)
        engine.wake()
        following = await site.engine()
        await site.until(second, Status.RUNNING)
        await until(lambda: (engine.running, following.running) == (1, 1))
        assert not leaving.done()
        go_on.set()
        await leaving
        assert site.task(first).output == 1
        assert not {"release", "rescue"} & set(site.events(first))
        assert (await site.ended(second)).output == 1
