"""Deliveries that fail, on both databases: retries, order, lost deliverers, receivers that are slow or gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import standardwebhooks

from runyard import Context
from runyard_common.database.rows import OrgScope
from runyard_common.outbound import Timeouts
from runyard_common.runs.service import cancellations
from runyard_common.values.errors import Conflict
from runyard_common.webhooks.queries import delivery_log
from runyard_common.webhooks.queries.delivery_log import Filter
from runyard_common.webhooks.queries.delivery_queue import Outgoing, Settled
from runyard_common.webhooks.rules.delivery_budget import PER_HOST, Kind
from runyard_common.webhooks.service import endpoints, redeliveries
from runyard_common.webhooks.service.deliveries import settle
from tests.delivery_installation import PATIENT, DeliveryInstallation
from tests.fakes.receiver import Received, receiving
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def greet(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    await ctx.progress(0.5, "half way")
    return {"hello": args.get("name")}


async def nothing(ctx: Context, args: dict[str, Any]) -> None: ...
def types(received: list[Received]) -> list[str]:
    return [r.json["type"] for r in received]


async def test_a_failing_delivery_holds_back_those_behind_it_and_others_pass(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url, schedules=PATIENT) as site:
        _, secret = site.endpoint(receiver.url("/hook"))
        receiver.answers["/hook"] = "/status/500"
        site.deliverer()
        stuck = await site.submit(site.publish(greet))
        await site.eventually(lambda: len(receiver.received) >= 2)
        await site.engine()
        await site.ended(stuck)
        assert {r.json["type"] for r in receiver.received} == {"run.pending"}
        receiver.answers["/hook"] = "/ok"
        await site.settled(3)
        assert types(receiver.accepted) == ["run.pending", "run.running", "run.completed"]
        first = receiver.received[0]
        again = [r for r in receiver.received if r.event_id == first.event_id]
        assert len(again) >= 3
        assert [r.attempt for r in again] == list(range(1, len(again) + 1))
        assert {r.body for r in again} == {first.body}
        for r in again:
            standardwebhooks.Webhook(secret).verify(r.body, r.headers)


async def test_a_dead_delivery_does_not_hold_back_those_behind_it(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/hook"))
        receiver.answers["/hook"] = "/status/404"
        site.deliverer()
        task_id = await site.submit(site.publish(greet))
        (dead,) = await site.settled(1)
        assert (dead.state, dead.error, dead.attempt) == ("dead", "http_404", 1)
        receiver.answers["/hook"] = "/ok"
        await site.engine()
        await site.ended(task_id)
        rows = await site.settled(3)
        assert [row.state for row in rows] == ["dead", "success", "success"]
        again = site.transact(lambda tx: redeliveries.redeliver(tx, site.org, dead.id, "test"))
        assert again.state == "pending"
        await site.settled(3, state="success")
        with site.store.read() as conn:
            kept = delivery_log.attempts(OrgScope(conn, site.org), dead.id)
        assert [(one["attempt"], one["status_code"], one["error"]) for one in kept] == [
            (1, 404, "http_404"),
            (1, 200, None),
        ]
        assert kept[0]["at"] <= kept[1]["at"]
        assert receiver.received[-1].event_id == receiver.received[0].event_id


async def test_retries_end_and_the_delivery_is_dead_to_be_seen(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/status/500"), style="appstrate", events=("run.cancelled",))
        site.deliverer()
        task_id = await site.submit(site.publish(greet))
        site.transact(lambda tx: cancellations.cancel_tasks(tx, [task_id], "enough"))
        (row,) = await site.settled(1)
        assert (row.state, row.attempt, row.error) == ("dead", 8, "http_500")
        assert len(receiver.received) == 8
        with site.store.read() as conn:
            assert [
                r.id for r in delivery_log.page(OrgScope(conn, site.org), Filter(states=("dead",)), 10)
            ] == [row.id]


async def test_an_answer_of_410_switches_the_endpoint_off_until_enabled_and_replayed(
    database_url: str,
) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        endpoint, _ = site.endpoint(receiver.url("/hook"))
        receiver.answers["/hook"] = "/status/410"
        site.deliverer()
        task_id = await site.submit(site.publish(greet))
        await site.settled(1)
        with site.store.read() as conn:
            row = endpoints.own(OrgScope(conn, site.org), endpoint)
        assert (row.active, row.disabled_reason) == (False, "gone")
        await site.engine()
        await site.ended(task_id)
        assert len(site.deliveries()) == 1, "nothing is promised to an endpoint that is off"
        with pytest.raises(Conflict):
            site.transact(lambda tx: redeliveries.replay(tx, site.org, endpoint, Filter(), "test"))
        receiver.answers["/hook"] = "/ok"
        site.transact(lambda tx: endpoints.set_active(tx, site.org, endpoint, True, "test"))
        done = site.transact(lambda tx: redeliveries.replay(tx, site.org, endpoint, Filter(), "test"))
        assert (len(done.ids), done.has_more) == (1, False)
        (sent,) = await site.settled(1)
        assert (sent.state, receiver.accepted[0].event_id) == ("success", receiver.received[0].event_id)
        more = Filter(updated_before=done.settled_before)
        assert site.transact(lambda tx: redeliveries.replay(tx, site.org, endpoint, more, "test")).ids == []


async def test_a_callback_that_answers_410_is_called_no_more(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.deliverer()
        await site.engine()
        callback = site.callback(receiver.url("/status/410"))
        task = await site.ended(await site.submit(site.publish(greet), callback=callback))
        rows = await site.settled(task_id=task.id)
        assert rows[0].error == "http_410"
        assert {row.error for row in rows[1:]} <= {"callback_gone"}
        assert len(receiver.received) == 1
        with pytest.raises(Conflict, match="410"):
            site.transact(lambda tx: redeliveries.redeliver(tx, site.org, rows[0].id, "test"))


async def test_retry_after_is_obeyed_for_the_whole_receiver(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/hook"), events=("run.pending",))
        receiver.answers["/hook"] = "/status/429?retry-after=1"
        site.deliverer()
        name = site.publish(greet)
        await site.submit(name)
        await site.eventually(lambda: receiver.received)
        receiver.answers["/hook"] = "/ok"
        await site.submit(name)
        await site.settled(2)
        first, *later = receiver.received
        assert all(r.at - first.at >= 0.99 for r in later)


async def test_what_a_killed_deliverer_had_in_hand_is_sent_by_another_under_the_same_id(
    database_url: str,
) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/hook"), events=("run.pending",))
        receiver.answers["/hook"] = "/hang"
        doomed = site.deliverer()
        doomed._lease = 0.6
        await site.submit(site.publish(greet))
        await site.eventually(lambda: receiver.received)
        site.vanish_deliverer(doomed)
        receiver.answers["/hook"] = "/ok"
        site.deliverer()
        (row,) = await site.settled(1)
        assert (row.state, row.attempt) == ("success", 2)
        assert len({r.event_id for r in receiver.received}) == 1


async def test_an_outcome_that_comes_after_its_lease_changes_nothing(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/hook"), events=("run.pending",))
        receiver.answers["/hook"] = "/gated"
        first = site.deliverer()
        await site.submit(site.publish(greet))
        await site.eventually(lambda: receiver.received)
        (row,) = site.deliveries()
        assert (row.lease_owner, row.state) == (first.owner, "pending")
        site.transact(lambda tx: settle(tx, [_late(row)]))
        assert site.deliveries()[0].state == "pending"
        receiver.go_on.set()
        (row,) = await site.settled(1)
        assert (row.state, row.status_code) == ("success", 200)


def _late(row: Any) -> Settled:
    out = Outgoing(
        row.id, row.org_id, row.task_id, row.endpoint_id, row.receiver, row.order_key, row.event_id,
        row.event_type, row.url, row.host, row.body, row.attempt, None, "native", None, b"", None, False, 0.0,
    )  # fmt: skip
    return Settled(out, "another deliverer", "dead", error="late")


async def test_a_drained_deliverer_finishes_what_it_sends_and_gives_the_rest_back(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/gated"), events=("run.pending",), max_per_second=8.0)
        name = site.publish(greet)
        for _ in range(3):
            await site.submit(name)
        drained = site.deliverer()
        await site.eventually(lambda: drained.under_way >= 2)
        draining = asyncio.create_task(drained.drain(30.0))
        await until(lambda: drained._draining)
        receiver.go_on.set()
        await draining
        rows = site.deliveries()
        assert all(row.lease_owner is None for row in rows)
        sent = [row for row in rows if row.state == "success"]
        assert len(sent) == len(receiver.received)
        assert {row.attempt for row in rows if row.state == "pending"} <= {0}
        site.deliverer()
        await site.settled(3)
        assert len({r.event_id for r in receiver.received}) == len(receiver.received) == 3


async def test_deliverers_of_several_processes_together_keep_an_endpoints_parallelism(
    database_url: str,
) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/gated"), events=("run.pending",), max_parallel=2, max_per_second=1000)
        name = site.publish(greet)
        for _ in range(16):
            await site.submit(name)
        for _ in range(3):
            site.deliverer(own_writer=True)
        await site.eventually(lambda: receiver.busy == 2)
        await asyncio.sleep(0.2)  # a third would come
        receiver.go_on.set()
        await site.settled(16)
        assert receiver.busiest == 2


async def test_a_receiver_that_never_answers_holds_a_few_calls_and_delays_no_other(database_url: str) -> None:
    patient = Timeouts(connect=5.0, read=60.0, total=60.0)
    async with (
        receiving() as dead,
        receiving() as healthy,
        DeliveryInstallation(database_url, timeouts=patient) as site,
    ):
        site.endpoint(dead.url("/hang"), events=("run.pending",), max_parallel=32, max_per_second=1000)
        to_healthy, _ = site.endpoint(healthy.url(), events=("run.pending",), max_per_second=1000)
        name = site.publish(greet)
        site.deliverer()
        await site.submit(name)
        await site.eventually(lambda: dead.busy)
        for _ in range(40):
            await site.submit(name)
        rows = await site.settled(41, endpoint_id=to_healthy)
        # Not one call to the dead receiver has ended, and no other delivery waited for it.
        assert {row.state for row in rows} == {"success"}
        assert len(dead.received) == dead.busy <= PER_HOST[Kind.NEW]
        assert healthy.busiest >= 1


async def test_an_endpoint_is_not_called_faster_than_it_allows(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url(), events=("run.pending",), max_per_second=2)
        name = site.publish(greet)
        for _ in range(4):
            await site.submit(name)
        site.deliverer()
        site.deliverer()
        await site.settled(4)
        times = sorted(r.at for r in receiver.received)
        assert times[-1] - times[0] >= 3 / 2 * 0.8, "even on a machine that sends the first one late"
