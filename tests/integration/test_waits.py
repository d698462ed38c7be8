"""Runs that wait, on both databases: what wakes them, what ends them, and what they cost meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runyard import AgentError, Context
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import queued, tasks, waits
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import bulk, cancellations, sent_events
from runyard_common.runs.service.queues import queue_position
from runyard_common.runs.service.sent_events import NewEvent
from runyard_common.values.errors import Conflict, NotFound
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Admit
from tests.installation import Installation
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
DAY = 86_400.0
AT_WORK: list[int] = [0, 0]  # now, and the most there were


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[Installation]:
    """An installation with one worker."""
    async with Installation(database_url) as site:
        await site.engine()
        yield site


async def sleeps(ctx: Context, args: dict[str, Any]) -> str:
    await ctx.sleep(args["seconds"])
    return "awake"


async def waits_for(ctx: Context, args: dict[str, Any]) -> Any:
    if args.get("after"):
        await ctx.ask("Go on?")
    return [await ctx.wait_for_event("paid", key=args.get("key")) for _ in range(args.get("times", 1))]


async def works(ctx: Context, args: dict[str, Any]) -> int:
    AT_WORK[0] += 1
    AT_WORK[1] = max(AT_WORK)
    await asyncio.sleep(0.01)
    await until(lambda: AT_WORK[1] >= args.get("together", 0), seconds=60)
    AT_WORK[0] -= 1
    if args["n"] == args.get("fails"):
        raise AgentError("no", code="refused")
    if args.get("fails") is not None and args["n"] > args["fails"]:
        await asyncio.Event().wait()  # until it is stopped
    return int(args["n"])


async def maps(ctx: Context, args: dict[str, Any]) -> Any:
    each = [args | {"n": n} for n in range(args["count"])]
    return await ctx.map(args["agent"], each, concurrency=args["at_once"])


def admit(site: Installation, in_seconds: float = 0.0) -> int:
    return Admit(site.store).run_once(time.time() + in_seconds)


def position(site: Installation, task_id: str) -> Any:
    with site.store.read() as conn:
        return queue_position(conn, tasks.load(conn, [task_id])[task_id], site.db.now(conn))


def send(site: Installation, **event: Any) -> sent_events.Sent:
    sent: sent_events.Sent = site.transact(
        lambda tx: sent_events.send(tx, site.org, NewEvent("paid", **event), "key:test")
    )
    return sent


async def test_a_sleeping_run_holds_no_slot_and_wakes_at_its_time(site: Installation) -> None:
    name = site.publish(sleeps)
    task_id = await site.submit(name, {"seconds": DAY})
    task = await site.until(task_id, Status.QUEUED)
    assert task.lease_owner is None
    await until(lambda: len(site.engines[0]._runs) == 0)
    shown = position(site, task_id)
    assert (shown.limit, shown.basis) == ("sleep", "it sleeps")
    assert DAY - 60 < shown.estimate_s <= DAY
    assert shown.until == task.available_at
    assert admit(site) == 0
    assert admit(site, DAY + 1) == 1
    # It is awake too early by the database's clock, which has not moved, and sleeps on.
    await site.until(task_id, Status.RUNNING, Status.PENDING, Status.QUEUED)


async def test_a_sleep_ends_by_itself(site: Installation) -> None:
    task_id = await site.submit(site.publish(sleeps), {"seconds": 1.2})
    await site.until(task_id, Status.QUEUED)
    await until(lambda: admit(site))
    task = await site.ended(task_id)
    assert (task.output, task.attempt) == ("awake", 2)


async def test_a_sleeping_run_is_cancelled_and_expires(site: Installation) -> None:
    name = site.publish(sleeps)
    cancelled, late = (
        await site.submit(name, {"seconds": DAY}),
        await site.submit(name, {"seconds": DAY}, deadline_s=DAY / 2),
    )
    for task_id in (cancelled, late):
        await site.until(task_id, Status.QUEUED)
    site.transact(lambda tx: bulk.cancel(tx, site.org, cancelled, "enough", "key:test"))

    def expire(tx: Any) -> int:
        tx.now = time.time() + DAY * 0.6
        return cancellations.expire_deadlines(tx)

    assert site.transact(expire) == 1
    assert (site.task(cancelled).status, site.task(late).status) == (Status.STOPPED, Status.FAILED)
    assert admit(site, 2 * DAY) == 0


async def test_the_scheduler_looks_at_no_sleeper_before_its_time(site: Installation) -> None:
    name = site.publish(sleeps)
    task_id = await site.submit(name, {"seconds": DAY})
    await site.until(task_id, Status.QUEUED)
    with site.store.read() as conn:
        assert [by.stored for by in queued.blockers(conn, "", 10)] == ["sleep"]
        assert queued.due(conn, time.time(), 10) == []


async def test_an_event_wakes_all_that_wait_with_its_key(site: Installation) -> None:
    name = site.publish(waits_for)
    waiting = [await site.submit(name, {"key": key}) for key in ("a", "a", "b", None)]
    for task_id in waiting:
        await site.until(task_id, Status.QUEUED)
    assert position(site, waiting[0]).basis == "it waits for the event paid (key:a)"
    assert set(send(site, data=1, key="a").task_ids) == set(waiting[:2])
    assert send(site, data=2).task_ids == [waiting[3]]
    assert send(site, data=3, key="c").task_ids == []
    for task_id, data in zip((waiting[0], waiting[1], waiting[3]), (1, 1, 2), strict=True):
        assert (await site.ended(task_id)).output == [data]
    assert site.task(waiting[2]).status is Status.QUEUED
    assert site.events(waiting[0])[-4:] == ["event_received", "admit", "claim", "finish"]


async def test_events_that_came_before_are_not_lost_and_come_in_order_and_once(site: Installation) -> None:
    before = send(site, data="before the run", key="a")
    task_id = await site.submit(site.publish(waits_for), {"key": "a", "after": True, "times": 3})
    await site.until(task_id, Status.WAITING_FOR_INPUT)
    assert before.task_ids == []
    for data in (1, 2):
        assert send(site, data=data, key="a").task_ids == [], "nothing waits for it yet"
    question = site.questions(task_id)[0]
    site.transact(lambda tx: answers.post_message(tx, site.org, task_id, "yes", "test", question.id))
    await site.until(task_id, Status.QUEUED)
    await until(lambda: site.transact(lambda tx: waits.waits_of(tx.conn, task_id)))
    send(site, data=3, task_id=task_id)
    assert (await site.ended(task_id)).output == [1, 2, 3]


async def test_events_are_an_organisations_own(site: Installation) -> None:
    task_id = await site.submit(site.publish(waits_for), {"key": "a"})
    await site.until(task_id, Status.QUEUED)
    other = uuid7()
    assert (
        site.transact(lambda tx: sent_events.send(tx, other, NewEvent("paid", 1, key="a"), "key:x")).task_ids
        == []
    )
    with pytest.raises(NotFound):
        site.transact(lambda tx: sent_events.send(tx, other, NewEvent("paid", 1, task_id=task_id), "key:x"))
    with pytest.raises(NotFound):
        send(site, session_id="nowhere")
    site.transact(lambda tx: bulk.cancel(tx, site.org, task_id, "enough", "key:test"))
    assert send(site, key="a").task_ids == [], "an ended run waits for nothing"
    with pytest.raises(Conflict):
        send(site, task_id=task_id)


async def test_no_more_children_of_a_map_are_at_work_than_its_bound(site: Installation) -> None:
    AT_WORK[:] = [0, 0]
    child, parent = site.publish(works), site.publish(maps)
    task_id = await site.submit(parent, {"agent": child, "count": 40, "at_once": 3, "together": 3})
    task = await site.ended(task_id)
    assert task.output == list(range(40))
    assert AT_WORK[1] == 3
    assert task.attempt == 2, "one wake-up for all"
    with site.store.read() as conn:
        page = tasks.children(conn, [task_id])
        left = conn.exec_driver_sql("SELECT count(*) FROM slots").scalar()
    assert (page, left) == ([], 0)


async def test_a_map_of_many_children_replays_once(site: Installation) -> None:
    child, parent = site.publish(works), site.publish(maps)
    task_id = await site.submit(parent, {"agent": child, "count": 200, "at_once": 50})
    task = await site.ended(task_id, seconds=120)
    assert task.output == list(range(200))
    assert task.attempt == 2


async def test_a_failed_child_stops_the_others_of_its_map(site: Installation) -> None:
    child, parent = site.publish(works), site.publish(maps)
    task_id = await site.submit(parent, {"agent": child, "count": 30, "at_once": 2, "fails": 3})
    task = await site.ended(task_id)
    assert task.error is not None
    assert (task.status, task.error["code"]) == (Status.FAILED, "child_failed")
    statuses = [one.status for one in _children(site, task_id)]
    assert statuses.count(Status.FAILED) == 1
    assert statuses.count(Status.STOPPED) >= 26, "all that come after it"
    assert all(status in (Status.COMPLETED, Status.FAILED, Status.STOPPED) for status in statuses)


def _children(site: Installation, task_id: str) -> list[Any]:
    with site.store.read() as conn:
        ids = conn.exec_driver_sql(f"SELECT id FROM tasks WHERE parent_id = '{task_id}'").scalars().all()
        return list(tasks.load(conn, list(ids)).values())


async def test_the_end_of_children_that_a_dead_process_did_not_report_is_found(site: Installation) -> None:
    child, parent = site.publish(works), site.publish(maps)
    hooks = site.store.after_commit
    assert hooks is not None
    task_id = await site.submit(parent, {"agent": child, "count": 3, "at_once": 3})
    # From here on nothing follows a commit but the waking of workers: no child's end lets its parent go on.
    site.store.after_commit = lambda tx: site._wake()
    try:
        await until(lambda: [one.status for one in _children(site, task_id)] == [Status.COMPLETED] * 3)
        await site.until(task_id, Status.QUEUED, Status.COMPLETED)
        await until(lambda: admit(site) or site.task(task_id).finished_at)
        await site.ended(task_id)
    finally:
        site.store.after_commit = hooks
    assert site.task(task_id).output == [0, 1, 2]


async def test_an_organisation_sees_its_own_waits_only(site: Installation) -> None:
    task_id = await site.submit(site.publish(waits_for), {"key": "a"})
    await site.until(task_id, Status.QUEUED)
    with site.store.read() as conn:
        assert [wait.name for wait in waits.expected(conn, site.org)] == ["paid"]
        assert waits.expected(conn, uuid7()) == []
        assert tasks.get(OrgScope(conn, uuid7()), task_id) is None
