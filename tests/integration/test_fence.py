"""A claim that the database forgot: its run can write nothing more, and never goes on beside the next one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import update

from runyard import BlockingContext, Context
from runyard_common.database.transaction import Store, Tx
from runyard_common.datastores.service.datastores import Indexed, store_passages
from runyard_common.runs.queries import transitions, workers
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import Cause, Event, Status
from runyard_common.runs.rules.tasks import Failure, Fence
from runyard_common.runs.rules.waits import Group
from runyard_common.runs.service import attempts, cancellations, claims, steps, waits
from runyard_common.sessions.service import incoming, state
from runyard_common.sessions.service.state import Op
from runyard_common.tables.query import Task
from runyard_common.usage import service as turns
from runyard_common.values.errors import StaleFence
from tests.installation import Installation
from tests.waiting import until

pytestmark = pytest.mark.anyio


def _forget_claim(tx: Tx, task_id: str) -> None:
    """What a crash of PostgreSQL, or a failover, does to a commit it had not made safe: the claim never was."""
    tx.conn.execute(
        update(Task)
        .where(Task.id == task_id)
        .values(status="pending", attempt=0, claim_token=None, lease_owner=None, started_at=None)
    )


async def test_a_forgotten_claim_is_made_again_and_only_its_second_run_goes_on(database_url: str) -> None:
    begun: list[int] = []
    effects: list[int] = []
    go = asyncio.Event()

    async def pay(ctx: Context, args: dict[str, Any]) -> str:
        life = len(begun)
        begun.append(life)
        if life == 0:
            await go.wait()

        async def effect() -> str:
            effects.append(life)
            return "paid"

        return str(await ctx.step("pay", effect, effect="irreversible"))

    async with Installation(database_url, lease_seconds=2.0) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(pay))
        await until(lambda: begun == [0])
        site.transact(lambda tx: _forget_claim(tx, task_id))
        engine.wake()
        task = await site.ended(task_id)
        go.set()
        await until(lambda: engine.running == 0)
        assert (task.status, task.output, task.attempt) == (Status.COMPLETED, "paid", 1)
        assert effects == [1], "the run of the forgotten claim was ended before the next began"


async def test_a_blocking_run_of_a_forgotten_claim_ends_before_the_next_one_begins(database_url: str) -> None:
    alive: list[str] = []
    log: list[str] = []
    lock = threading.Lock()
    entered, leave = threading.Event(), threading.Event()

    def work(ctx: BlockingContext, args: dict[str, Any]) -> str:
        with lock:
            log.append("two lives" if alive else "alone")
            alive.append("x")
        try:
            if not entered.is_set():
                entered.set()
                leave.wait(50)
            return "done"
        finally:
            with lock:
                alive.pop()

    async with Installation(database_url, lease_seconds=5.0) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(work))
        await asyncio.to_thread(entered.wait, 10)
        site.transact(lambda tx: _forget_claim(tx, task_id))
        engine.wake()
        await site.until(task_id, Status.RUNNING)
        asyncio.get_running_loop().call_later(0.5, leave.set)
        task = await site.ended(task_id)
        assert task.status is Status.COMPLETED
        assert log == ["alone", "alone"]


async def test_a_worker_that_learns_by_its_heartbeat_ends_the_run_of_a_claim_another_has(
    database_url: str,
) -> None:
    left = asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> int:
        if not left.is_set():
            try:
                await asyncio.sleep(30)
            finally:
                left.set()
        return 2

    async with Installation(database_url, lease_seconds=1.0) as site:
        first = await site.engine()
        task_id = await site.submit(site.publish(work))
        await site.until(task_id, Status.RUNNING)

        def given_to_another(tx: Tx) -> None:
            tx.conn.execute(update(Task).where(Task.id == task_id).values(claim_token="another"))

        site.transact(given_to_another)
        await asyncio.wait_for(left.wait(), 50)
        await until(lambda: first.running == 0)


@pytest.mark.parametrize("which", ["number", "token"])
async def test_no_write_passes_with_the_number_or_the_token_of_another_claim(
    database_url: str, which: str
) -> None:
    async def never(ctx: Context, args: dict[str, Any]) -> None: ...

    async with Installation(database_url) as site:
        task_id = await site.submit(site.publish(never))

        def claim(tx: Tx) -> Fence:
            workers.enlist(tx, "w", "here", 1, 1, 60.0)
            (batch,) = claims.claim(tx, [claims.Claim("w", 1)])
            assert isinstance(batch, claims.Batch)
            return batch.claimed[0].task.fence

        fence = site.transact(claim)
        assert fence.token
        wrong = fence._replace(attempt=2) if which == "number" else fence._replace(token="0" * 16)
        failure = Failure("x", "x", Cause.AGENT)
        asked = attempts.Asked("q", "question", {"text": "?"})
        writes: list[tuple[Any, Any]] = [
            (attempts.finish, attempts.Finish(task_id, wrong, 1)),
            (attempts.fail, attempts.Fail(task_id, wrong, failure)),
            (attempts.suspend, attempts.Suspend(task_id, wrong, (asked,))),
            (waits.wait, waits.Wait(task_id, wrong, (Group(children=(task_id,)),))),
            (waits.wait, waits.Wait(task_id, wrong, (Group(until=1.0),))),
            (
                waits.expect,
                waits.Expect(task_id, wrong, Step("e", "event", "paid", "read", pos=1), "paid", "", None),
            ),
            (waits.give_up, waits.GiveUp(task_id, wrong, Step("e", "event", "paid", "read", pos=1))),
            (attempts.release, attempts.Release(task_id, wrong)),
            (attempts.release, attempts.Release(task_id, wrong, "orphaned")),
            (steps.begin, steps.Begin(task_id, wrong, Step("k", "step", "s", "irreversible", pos=1))),
            (steps.end, steps.End(task_id, wrong, Step("k", "step", "s", "read", pos=1), 1)),
            (steps.emit, steps.Emit(task_id, wrong, (("custom", {}),))),
            (incoming.read_messages, incoming.ReadMessages(task_id, wrong, "m", 1)),
            (
                state.read,
                state.Access(task_id, None, wrong, Step("s", "state", "n", "read", pos=1), Op.GET, "n"),
            ),
            (
                state.change,
                state.Access(task_id, None, wrong, Step("s", "state", "n", "read", pos=1), Op.SET, "n"),
            ),
            (turns.start_turn, turns.StartTurn(task_id, wrong, "t", 1)),
            (store_passages, Indexed(task_id, wrong, site.org, "d")),
        ]
        for batch, command in writes:
            (answer,) = site.transact(lambda tx: batch(tx, [command]))  # noqa: B023
            assert isinstance(answer, StaleFence), command
        change = transitions.Change(task_id, Event.FINISH, wrong)
        assert isinstance(site.transact(lambda tx: transitions.move(tx, [change]))[0], StaleFence)
        assert site.events(task_id) == ["submit", "claim"]
        (answer,) = site.transact(lambda tx: attempts.finish(tx, [attempts.Finish(task_id, fence, 1)]))
        assert not isinstance(answer, Exception)


async def test_a_process_that_was_paused_past_its_lease_does_no_step_before_it_has_asked(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    first, go = asyncio.Event(), asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> int:
        first.set()
        await go.wait()
        await ctx.step("effect", done.append, ctx.task.attempt)
        return ctx.task.attempt

    async with Installation(database_url, lease_seconds=60.0) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(work))
        await asyncio.wait_for(first.wait(), 30)
        lease = engine._runs.lease
        assert lease is not None
        assert engine._beat is not None
        engine._beat.stop()  # as SIGSTOP stops it, with all else; what follows is the time after SIGCONT
        monkeypatch.setattr(lease, "_asked_at", lease.now() - 60.5)
        go.set()
        await asyncio.sleep(0.5)
        assert done == [], "the lease may be another's: nothing is done before a heartbeat"
        lease.renewed(lease.now())
        assert (await site.ended(task_id)).output == 1
        assert done == [1]


@pytest.mark.parametrize("found_by", ["a write", "a heartbeat"])
async def test_a_run_whose_cancellation_nobody_pushed_is_stopped_all_the_same(
    database_url: str, found_by: str
) -> None:
    stopped: list[bool] = []
    began, go = asyncio.Event(), asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> None:
        try:
            began.set()
            await go.wait()
            await ctx.step("next", lambda: 1)
        finally:
            stopped.append(ctx.stopped)

    lease_seconds = 60.0 if found_by == "a write" else 0.6
    async with Installation(database_url, lease_seconds=lease_seconds) as site:
        engine = await site.engine()
        task_id = await site.submit(site.publish(work))
        await asyncio.wait_for(began.wait(), 50)

        def cancel() -> None:
            with Store(site.store.db).begin() as tx:  # of a process that cannot push
                cancellations.cancel_tasks(tx, [task_id], "no longer needed", "me")

        await asyncio.to_thread(cancel)
        if found_by == "a write":
            go.set()
        await until(lambda: engine.running == 0)
        assert stopped == [True]
