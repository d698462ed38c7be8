"""POST /events: an event reaches the runs that wait for it, once, of its own organisation alone."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from runyard import AsyncClient, Context
from runyard_common.runs.rules.lifecycle import Status
from tests.api_server import Api, settled, workers_of


def send(client: httpx2.Client, status: int = 202, **body: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/events", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": "n", "key": "k" * 251}, "key"),
        ({"name": "n", "key": "k", "session_id": "s"}, ""),
        ({"name": "n", "to": "k"}, "to"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(client: httpx2.Client, body: Any, field: str) -> None:
    refused = send(client, 400, **body)
    assert refused["code"] in ("invalid_field", "missing_field", "unknown_field")
    assert (refused.get("field") or "").startswith(field)


def test_an_unknown_task_or_session_is_not_found(client: httpx2.Client) -> None:
    nowhere = "019c1f2b-7d41-7a36-8d52-6a4be3d1f0a1"
    assert send(client, 404, name="n", task_id=nowhere)["code"] == "task_not_found"
    assert send(client, 404, name="n", session_id="nowhere")["code"] == "session_not_found"


def test_an_event_is_sent_once_for_each_idempotency_key_and_noted(client: httpx2.Client) -> None:
    body, headers = {"name": "paid", "data": 1}, {"Idempotency-Key": "order-1"}
    first, again = (client.post("/api/v1/events", json=body, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    noted = client.get("/api/v1/audit", params={"action": "event.send"}).json()["data"]
    assert [entry["object_id"] for entry in noted].count(first.json()["id"]) == 1


def test_sending_events_is_a_right_of_its_own(api: Api, client: httpx2.Client) -> None:
    keys = [
        client.post("/api/v1/keys", json={"name": scope, "scopes": [scope]}).json()["key"]
        for scope in ("runs:create", "events:send")
    ]
    with api.client(keys[0]) as other:
        assert send(other, 403, name="n")["code"] == "missing_permission"
    with api.client(keys[1]) as other:
        send(other, name="n")


@pytest.mark.anyio
async def test_a_waiting_run_shows_what_it_waits_for_and_goes_on(api: Api) -> None:
    async def waits(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.wait_for_event("shipped", key="7", timeout=3600)

    async with workers_of(api) as site, api.async_client() as client:
        body = {"args": {}, "session_id": "s"}
        made = (await client.post(f"/api/v1/agents/{site.publish(waits)}/run", json=body)).json()
        await site.until(made["task_id"], Status.QUEUED)
        queue = (await client.get(f"/tasks/{made['task_id']}")).json()["queue"]
        assert (queue["limit"], queue["basis"]) == ("event", "it waits for the event shipped (key:7)")
        assert 3000 < queue["estimate_s"] <= 3600
        assert queue["until"].endswith("Z")
        async with AsyncClient(api.url, api.key) as caller:
            assert await caller.send_event("shipped", 1, key="8") == 0
            assert await caller.send_event("shipped", {"at": 9}, session_id="s") == 1
        assert (await settled(client, made["task_id"]))["output"] == {"at": 9}


@pytest.mark.anyio
async def test_integers_of_more_than_64_bits_keep_their_digits_on_every_way_in(api: Api) -> None:
    async def collects(ctx: Context, args: dict[str, Any]) -> Any:
        answer = await ctx.ask("Which number?", schema={"type": "integer"})
        return [args, answer, await ctx.wait_for_event("numbered", timeout=3600)]

    number = 2**80 + 1
    async with workers_of(api) as site, api.async_client() as client:
        path = f"/api/v1/agents/{site.publish(collects)}/run"
        task_id = (await client.post(path, json={"args": {"x": number, "y": 1.5e30}})).json()["task_id"]
        await settled(client, task_id, "waiting_for_input")
        answer = await client.post(f"/tasks/{task_id}/message", json={"message": number})
        assert answer.status_code == 202, answer.text
        await site.until(task_id, Status.QUEUED)
        event = {"name": "numbered", "task_id": task_id, "data": [number]}
        assert (await client.post("/api/v1/events", json=event)).status_code == 202
        output = (await settled(client, task_id))["output"]
    assert output == [{"x": str(number), "y": 1.5e30}, str(number), [str(number)]]
