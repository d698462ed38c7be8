"""Deliveries on both databases: what is promised, in which order, how it is retried, buried and sent again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest
import standardwebhooks
from sqlalchemy import Engine, event

from runyard import AgentError, Context
from runyard_common.human_tasks.service import answer_links
from runyard_common.human_tasks.service.answer_links import LinkGone
from runyard_common.human_tasks.service.answers import Decision
from runyard_common.outbound import GuardedClient, OutboundPolicy
from runyard_common.runs.service import cancellations
from runyard_common.webhooks.service import endpoints
from runyard_scheduler.duties import Deliver
from tests.delivery_installation import PATIENT, DeliveryInstallation
from tests.fakes.receiver import Received, receiving

pytestmark = pytest.mark.anyio


async def greet(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    await ctx.progress(0.5, "half way")
    return {"hello": args.get("name")}


async def nothing(ctx: Context, args: dict[str, Any]) -> None: ...


async def colour(ctx: Context, args: dict[str, Any]) -> Any:
    return await ctx.ask("Which colour?", options=["red", "blue"])


def types(received: list[Received]) -> list[str]:
    return [r.json["type"] for r in received]


async def test_an_endpoint_hears_of_every_state_in_order_signed(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        endpoint, secret = site.endpoint(receiver.url())
        site.deliverer()
        await site.engine()
        task = await site.ended(await site.submit(site.publish(greet), {"name": "Ada"}))
        rows = await site.settled(3, endpoint_id=endpoint)
        assert [row.state for row in rows] == ["success"] * 3
        got = receiver.received
        assert types(got) == ["run.pending", "run.running", "run.completed"]
        assert len({r.event_id for r in got}) == 3
        for r in got:
            assert standardwebhooks.Webhook(secret).verify(r.body, r.headers) == r.json
            assert r.json["id"] == r.event_id
            assert r.attempt == 1
        last = got[-1].json["data"]
        assert (last["task_id"], last["status"], last["output"]) == (task.id, "completed", {"hello": "Ada"})
        assert last["input"]["args"] == {"name": "Ada"}
        assert (rows[0].status_code, rows[0].answer, rows[0].attempt) == (200, "thanks", 1)


async def test_a_callback_gets_agentbase_events_one_by_one_and_a_completion(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        secret = site.transact(lambda tx: endpoints.rotate_callbacks(tx, site.org, site.sealer, "test"))
        site.deliverer()
        await site.engine()
        callback = site.callback(receiver.url(), {"Authorization": "Bearer of-the-caller"})
        task = await site.ended(await site.submit(site.publish(greet), {"name": "Ada"}, callback=callback))
        await site.settled(5, task_id=task.id)
        got = receiver.received
        assert types(got) == [
            "agent_started", "agent_progress", "agent_response", "agent_completed", "run.completed",
        ]  # fmt: skip
        assert got[2].json["content"] == '{"hello":"Ada"}'
        assert all({"type", "session", "task_id"} <= r.json.keys() for r in got)
        done = got[-1].json
        assert (done["taskId"], done["status"], done["output"]) == (task.id, "completed", {"hello": "Ada"})
        for r in got:
            assert r.headers["authorization"] == "Bearer of-the-caller"
            standardwebhooks.Webhook(secret).verify(r.body, r.headers)


async def test_a_callback_is_sent_a_failure_and_a_stop(database_url: str) -> None:
    async def fail(ctx: Context, args: dict[str, Any]) -> None:
        raise AgentError("no such invoice", code="invoice_missing")

    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.deliverer()
        queued = await site.submit(site.publish(greet), callback=site.callback(receiver.url("/held")))
        site.transact(lambda tx: cancellations.cancel_tasks(tx, [queued], "no longer needed"))
        await site.engine()
        await site.ended(
            await site.submit(site.publish(fail), callback=site.callback(receiver.url("/failed")))
        )
        await site.settled(5)
        assert types(receiver.on("/held")) == ["agent_error", "run.stopped"]
        failed = receiver.on("/failed")
        assert types(failed) == ["agent_started", "agent_error", "run.failed"]
        assert failed[1].json["content"] == "no such invoice"
        assert failed[1].json["code"] == "invoice_missing"


async def test_a_waiting_run_sends_a_link_that_answers_once_and_is_not_stored(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url, schedules=PATIENT) as site:
        site.endpoint(receiver.url("/hook"), events=("run.waiting_for_input", "run.completed"))
        receiver.answers["/hook"] = "/status/500"
        site.deliverer()
        await site.engine()
        task_id = await site.submit(site.publish(colour))
        await site.eventually(lambda: len(receiver.received) >= 2)
        receiver.answers["/hook"] = "/ok"
        (row,) = await site.settled(1)
        asked = receiver.accepted[0].json["data"]["question"]
        assert (asked["text"], asked["options"]) == ("Which colour?", ["red", "blue"])
        assert len({r.body for r in receiver.received}) == 1, "the same body at every attempt"
        base, _, token = asked["answer_url"].rpartition("/")
        assert base == "https://runyard.example/answer"
        assert token not in row.body
        assert site.transact(lambda tx: answer_links.answer(tx, token, "blue")) == task_id
        assert (await site.ended(task_id)).output == "blue"
        with pytest.raises(LinkGone):
            site.transact(lambda tx: answer_links.answer(tx, token, "red"))
        await site.settled(2)
        assert types(receiver.accepted) == ["run.waiting_for_input", "run.completed"]


async def test_a_review_sends_a_link_too_by_endpoint_and_by_callback(database_url: str) -> None:
    async def pay(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.review("pay", {"total": 10})

    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url("/hook"), events=("run.awaiting_review",))
        site.deliverer()
        await site.engine()
        task_id = await site.submit(site.publish(pay), callback=site.callback(receiver.url("/back")))
        await site.settled(3)
        review = receiver.on("/hook")[0].json["data"]["review"]
        assert (review["action"], review["arguments"]) == ("pay", {"total": 10})
        _, asked = receiver.on("/back")
        assert asked.json["type"] == "agent_awaiting_review"
        links = [review["answer_url"], asked.json["reviews"][0]["answer_url"]]
        assert len(set(links)) == 2
        token = links[1].rpartition("/")[2]
        site.transact(lambda tx: answer_links.answer(tx, token, Decision("approve")))
        assert (await site.ended(task_id)).output == {"total": 10}


async def test_filters_say_who_hears_what(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        mine, other = site.publish(greet), site.publish(nothing)
        agent = site.spec(mine).agent.agent_id
        site.endpoint(receiver.url("/mine"), agent_id=agent, events=("run.completed", "run.completed"))
        site.endpoint(receiver.url("/summary"), payload_mode="summary", events=("run.completed",))
        site.endpoint(receiver.url("/off"), active=False)
        site.endpoint(receiver.url("/application"), application_id="app_1")
        site.deliverer()
        await site.engine()
        await site.ended(await site.submit(mine, {"name": "Ada"}))
        await site.ended(await site.submit(other))
        await site.settled(3)
        assert sorted(r.path for r in receiver.received) == ["/mine", "/summary", "/summary"]
        summary = receiver.on("/summary")[0].json["data"]
        assert summary["status"] == "completed"
        assert not {"input", "output"} & summary.keys()


async def test_appstrate_endpoints_get_appstrates_events(database_url: str) -> None:
    async def slow(ctx: Context, args: dict[str, Any]) -> None:
        await asyncio.sleep(30)

    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url(), style="appstrate")
        site.deliverer()
        await site.engine()
        name, slow_name = site.publish(greet), site.publish(slow, timeout=0.05)
        task = await site.ended(await site.submit(name, {"name": "Ada"}))
        await site.ended(await site.submit(slow_name))
        stopped = await site.submit(name, message="hi")
        await site.settled()
        await site.eventually(lambda: len(receiver.received) >= 6)
        assert stopped
        by_type = {r.json["type"]: r.json for r in receiver.received}
        assert set(by_type) == {"run.started", "run.completed", "run.timeout"}
        done = by_type["run.completed"]
        assert (done["object"], done["apiVersion"]) == ("event", "2026-03-21")
        assert done["id"].startswith("evt_")
        assert abs(done["created"] - time.time()) < 60
        completed = next(
            r.json["data"]["object"] for r in receiver.received if r.json["data"]["object"]["id"] == f"exec_{task.id}"
            and r.json["type"] == "run.completed"
        )  # fmt: skip
        duration = completed.pop("duration")
        assert completed == {
            "object": "run",
            "id": f"exec_{task.id}",
            "packageId": name,
            "status": "completed",
            "input": {"name": "Ada"},
            "result": {"output": {"hello": "Ada"}},
        }
        assert 0 <= duration < 60_000


async def test_a_change_that_is_rolled_back_promises_nothing(database_url: str) -> None:
    async with DeliveryInstallation(database_url) as site:
        site.endpoint("https://hooks.example.com/")
        task_id = await site.submit(site.publish(greet))
        assert len(site.deliveries()) == 1

        def stop_and_fail(tx: Any) -> None:
            cancellations.cancel_tasks(tx, [task_id], "no")
            raise RuntimeError("the commit never came")

        with pytest.raises(RuntimeError):
            site.transact(stop_and_fail)
        assert len(site.deliveries()) == 1


async def test_an_organisation_without_endpoints_pays_one_query_a_batch(database_url: str) -> None:
    async with DeliveryInstallation(database_url) as site:
        name = site.publish(greet)
        ids = [await site.submit(name) for _ in range(20)]
        statements: list[str] = []

        def note(*args: Any) -> None:
            statements.append(args[2])

        event.listen(Engine, "before_cursor_execute", note)
        try:
            site.transact(lambda tx: cancellations.cancel_tasks(tx, ids, "no"))
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        about = [
            text for text in statements if "endpoints" in text or "deliveries" in text or "callbacks" in text
        ]
        assert len(about) == 1
        assert site.deliveries() == []


async def test_secrets_and_headers_are_nowhere_to_be_read(
    database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        _, secret = site.endpoint(receiver.url("/hook"), events=("run.completed",))
        receiver.answers |= {"/hook": "/status/400", "/back": "/echo"}
        site.deliverer()
        await site.engine()
        callback = site.callback(receiver.url("/back"), {"X-Key": "of-the-caller"})
        task = await site.ended(await site.submit(site.publish(greet), callback=callback))
        await site.eventually(lambda: len(receiver.received) >= 4)
        assert receiver.on("/back")[0].headers["x-key"] == "of-the-caller"
        rows = await site.settled()
        answer = next(row.answer for row in rows if row.task_id == task.id and row.endpoint_id is None)
        assert "webhook-id" in answer
        with site.store.read() as conn:
            for table in ("deliveries", "endpoints", "callbacks", "events", "audit", "tasks"):
                for row in conn.exec_driver_sql(f"SELECT * FROM {table}"):
                    text = b" ".join(
                        v if isinstance(v, bytes) else orjson.dumps(v, default=str) for v in row
                    ).decode("latin-1")
                    assert "of-the-caller" not in text, table
                    assert secret.removeprefix("whsec_") not in text, table
        heard = capfd.readouterr()
        assert "of-the-caller" not in heard.out + heard.err


async def test_an_address_that_may_not_be_called_is_refused_at_the_call(database_url: str) -> None:
    async with receiving() as receiver, DeliveryInstallation(database_url) as site:
        site.endpoint(receiver.url(), events=("run.pending",))
        async with GuardedClient(OutboundPolicy()) as site.client:
            site.deliverer()
            await site.submit(site.publish(greet))
            (row,) = await site.settled(1)
        assert (row.state, row.attempt, row.error.partition(":")[0]) == ("dead", 1, "url_refused")
        assert receiver.received == []


async def test_the_scheduler_rings_for_what_was_not_claimed_and_gives_up_after_days(
    database_url: str,
) -> None:
    async with DeliveryInstallation(database_url) as site:
        site.endpoint("https://hooks.example.com/", events=("run.pending",))
        before = time.time()
        await site.submit(site.publish(greet))
        rings: list[int] = []
        site.recorder.notify_deliveries = lambda: rings.append(1)  # type: ignore[method-assign]
        duty = Deliver(site.store, site.recorder)
        assert duty.run_once(before) == 0
        assert rings == []
        assert duty.run_once(time.time() + 10) == 0
        assert rings == [1]
        assert duty.run_once(time.time() + 4 * 86_400) == 1
        (row,) = site.deliveries()
        assert (row.state, row.error) == ("dead", "receiver_away")
