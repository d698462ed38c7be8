"""A fleet may be mixed: a worker claims what it can run, and a run that no worker can run waits with a reason."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from runyard import Context, authoring
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import queues
from runyard_common.tables.query import Task, TaskEvent
from runyard_launch.cli import doctor
from runyard_scheduler.duties import Relay
from tests.api_server import Api, settled, workers_of
from tests.installation import Installation, Recorder
from tests.waiting import wait_until

pytestmark = pytest.mark.anyio


async def greet(ctx: Context, args: dict[str, Any]) -> str:
    """Greets."""
    return "hello"


async def part(ctx: Context, args: dict[str, Any]) -> str:
    """Greets, after an answer."""
    return f"goodbye, {await ctx.ask('Who?')}"


def claims_of(site: Installation, task_id: str) -> list[str]:
    """The workers that claimed a task, in order."""
    query = select(TaskEvent.data).where(TaskEvent.task_id == task_id, TaskEvent.type == "claim")
    with site.store.read() as conn:
        return [data["worker"] for data in conn.execute(query.order_by(TaskEvent.seq)).scalars()]


async def test_each_run_is_claimed_by_a_worker_that_has_its_agent(database_url: str) -> None:
    async with Installation(database_url) as site:
        one, other = site.publish(greet), site.publish(part)
        has_one = await site.engine(agents=[f"{one}@1.0.0"])
        has_other = await site.engine(agents=[f"{other}@1.0.0"])
        await site.engine(agents=[])
        tasks = [await site.submit(name, {}) for name in (one, other) * 10]
        for task_id in tasks[::2]:
            assert (await site.ended(task_id)).attempt == 1
            assert claims_of(site, task_id) == [has_one.worker_id]
        for task_id in tasks[1::2]:
            await site.until(task_id, Status.WAITING_FOR_INPUT)
            assert claims_of(site, task_id) == [has_other.worker_id]


async def test_a_run_waits_for_a_worker_with_its_version_and_uses_no_retry(database_url: str) -> None:
    async with Installation(database_url) as site:
        name = site.publish(greet)
        await site.engine(agents=[])
        await site.engine(agents=[f"{name}@0.9.0"])
        task_id = await site.submit(name, {})
        after = await site.submit(site.publish(part), {})  # what follows it is not kept
        await site.engine(agents=[f"{site.task(after).agent_name}@1.0.0"])
        await site.until(after, Status.WAITING_FOR_INPUT)
        waiting = site.task(task_id)
        assert (waiting.status, waiting.attempt, waiting.retries) == (Status.PENDING, 0, None)
        with site.store.read() as conn:
            assert queues.waiting_for_workers(conn, site.db.now(conn)) == {f"{name}@1.0.0": 1}
        await site.engine(agents=[f"{name}@1.0.0"])
        done = await site.ended(task_id)
        assert (done.status, done.attempt) == (Status.COMPLETED, 1)
        with site.store.read() as conn:
            assert queues.waiting_for_workers(conn, site.db.now(conn)) == {}


async def test_runs_that_wait_for_a_person_are_named_where_no_worker_has_their_code(
    database_url: str,
) -> None:
    async with Installation(database_url) as site:
        name, other = site.publish(part), site.publish(greet)
        before = await site.engine(agents=[f"{name}@1.0.0", f"{other}@1.0.0"])
        task_id = await site.submit(name, {})
        await site.until(task_id, Status.WAITING_FOR_INPUT)

        def found() -> list[queues.WithoutCode]:
            with site.store.read() as conn:
                return queues.without_code(conn, site.db.now(conn), site.org, 10)

        assert found() == []
        await before.drain(5)
        await site.engine(agents=[f"{name}@1.0.0+6c9e35ba", f"{other}@1.0.0"])
        assert found() == [queues.WithoutCode(task_id, name, "1.0.0", ["1.0.0+6c9e35ba"])]
        await site.engine(agents=[], resumes=[f"{name}@1.0.0"])
        assert found() == []


async def test_a_run_stored_by_an_earlier_version_is_handed_back_until_a_worker_has_its_agent(
    database_url: str,
) -> None:
    async with Installation(database_url) as site:
        name = site.publish(greet)
        definition = authoring._registry.pop(f"{name}@1.0.0")
        task_id = await site.submit(name, {}, blocked_by=BlockedBy.schedule("none"))
        old = (
            update(Task)
            .where(Task.id == task_id)
            .values(required_agent=None, status="pending", blocked_by=None)
        )
        site.transact(lambda tx: tx.conn.execute(old))
        first = await site.engine(agents=[])
        first.wake()
        required = lambda: site.task(task_id).required_agent  # noqa: E731
        assert await asyncio.to_thread(wait_until, required) == f"{name}@1.0.0"
        waiting = await site.until(task_id, Status.PENDING)
        assert (waiting.retries, waiting.error, waiting.releases) == (None, None, 0)
        authoring._registry[f"{name}@1.0.0"] = definition
        await site.engine(agents=[f"{name}@1.0.0"])
        assert (await site.ended(task_id)).status is Status.COMPLETED


async def test_the_relay_rings_at_each_look_for_what_waits_and_reports_it_once(database_url: str) -> None:
    async with Installation(database_url) as site:
        name, broker = site.publish(greet), Recorder()
        relay, later = Relay(site.store, broker), time.time() + 60
        await site.submit(name, {})
        assert [await asyncio.to_thread(relay.run_once, later) for _ in range(3)] == [1, 0, 0]
        await site.submit(name, {})
        assert [await asyncio.to_thread(relay.run_once, later) for _ in range(2)] == [1, 0]
        assert broker.rings == 5


async def test_callers_operators_and_the_doctor_see_why_it_waits(home: Path) -> None:
    with Api(home) as api:
        async with workers_of(api, engines=0) as site, api.async_client() as client:
            name = site.publish(greet)
            await site.engine(agents=[])
            task_id = await site.submit(name, {})
            task = (await client.get(f"/tasks/{task_id}")).json()
            assert task["status"] == "pending"
            assert task["queue"]["limit"] == "worker"
            assert f"no worker has this agent ({name} 1.0.0)" in task["queue"]["basis"]
            assert "no worker has this agent" in task["message"]
            assert (await client.get("/api/v1/ops/queue")).json()["without_worker"] == 1
            assert "runyard_without_worker 1.0" in (await client.get("/metrics")).text
            (finding,) = await asyncio.to_thread(lambda: list(doctor._workers(api.settings)))
            assert finding.verdict is doctor.Verdict.ODD
            assert f"no worker has this agent: {name}@1.0.0 (1)" in finding.text
            await site.engine(agents=[f"{name}@1.0.0"])
            rows = (await client.get("/api/v1/ops/workers")).json()["data"]
            assert sorted(row["agents"] for row in rows) == [[], [f"{name}@1.0.0"]]
            assert (await settled(client, task_id))["status"] == "completed"
            assert await asyncio.to_thread(lambda: list(doctor._workers(api.settings))) == []


async def test_what_waits_for_a_version_shows_which_ones_workers_have(home: Path) -> None:
    with Api(home) as api:
        async with workers_of(api, engines=0) as site, api.async_client() as client:
            name = site.publish(greet)
            await site.engine(agents=[f"{name}@0.9.0"])
            await site.engine(agents=[f"{name}@0.8.0", f"{name}er@1.0.0"])
            task_id = await site.submit(name, {})
            task = (await client.get(f"/tasks/{task_id}")).json()
            why = f"no worker has this agent ({name} 1.0.0), workers have 0.8.0, 0.9.0: start a worker"
            assert why in task["queue"]["basis"]
            assert why in task["message"]
            (finding,) = await asyncio.to_thread(lambda: list(doctor._workers(api.settings)))
            assert f"no worker has this agent: {name}@1.0.0 (1; workers have 0.8.0, 0.9.0)" in finding.text
            assert "cancel the runs and submit them again" in finding.text


async def test_a_worker_that_drains_counts_no_more_before_its_runs_have_ended(database_url: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await go_on.wait()

    async def slowly(ctx: Context, args: dict[str, Any]) -> None:
        await ctx.step("wait", wait)  # within a step, which a drain lets end

    async with Installation(database_url) as site:
        name = site.publish(slowly)
        old = await site.engine(agents=[f"{name}@1.0.0"])
        site.publish(slowly, name, version="2.0.0")
        new = await site.engine(agents=[f"{name}@2.0.0"])
        task_id = await site.submit(name, {})
        await asyncio.wait_for(begun.wait(), 20)
        assert site.task(task_id).version == "2.0.0"
        leaving = asyncio.create_task(new.drain(20.0))
        bound = lambda: site.spec(name).agent.version == "1.0.0"  # noqa: E731
        await asyncio.to_thread(wait_until, bound)
        assert site.task(task_id).status is Status.RUNNING
        go_on.set()
        await leaving
        site.engines.remove(new)
        assert old.running == 0
        assert site.spec(name).agent.version == "1.0.0"


async def test_a_worker_looks_often_while_another_lacks_an_agent_of_its_own(database_url: str) -> None:
    async with Installation(database_url, lease_seconds=2.0) as site:
        engine = await site.engine(agents=["@a/b@1.0.0"])
        assert engine._look_every == 3.0
        await site.engine(agents=[])
        await asyncio.to_thread(wait_until, lambda: engine._look_every == 0.5)


def test_a_worker_of_an_earlier_version_may_have_any_agent() -> None:
    fleet = workers.Fleet((None, frozenset()))
    assert fleet.has("@a/b@1.0.0")
    assert not workers.Fleet((frozenset({"@a/b@2.0.0"}),)).has("@a/b@1.0.0")
    assert fleet.lacks(["@a/b@1.0.0"])
    assert not fleet.lacks([])
