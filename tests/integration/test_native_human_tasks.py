"""People in the loop over HTTP: questions, reviews, the inbox, and one-time links; retries of what ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard import AgentError, Context
from tests.api_server import Api, settled, workers_of
from tests.installation import Installation

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def installed(
    tmp_path: Path, database_url: str = ""
) -> AsyncIterator[tuple[Api, Installation, httpx2.AsyncClient]]:
    with Api(tmp_path / "home", database_url) as api:
        async with workers_of(api) as site, api.async_client() as client:
            yield api, site, client


async def run(client: httpx2.AsyncClient, agent: str, **body: Any) -> str:
    answer = await client.post(f"/api/v1/agents/{agent}/run", json={"args": {}} | body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def order(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Asks two things of its user."""
    schema = {"type": "integer", "minimum": 1}
    count = await ctx.ask("How many?", schema=schema)
    colour = await ctx.ask("Which colour?", options=["red", "blue"])
    return {"count": count, "colour": colour}


async def post_ledger(ctx: Context, args: dict[str, Any]) -> Any:
    """Needs a decision before it posts."""
    return await ctx.review("post to ledger", {"total": 12})


async def test_questions_are_shown_answered_and_checked(tmp_path: Path, database_url: str) -> None:
    async with installed(tmp_path, database_url) as (_, site, client):
        task_id = await run(client, site.publish(order))
        task = await settled(client, task_id, "waiting_for_input")
        assert (task["question"]["text"], task["question"]["schema"]["type"]) == ("How many?", "integer")
        lines = (await client.get(f"/tasks/{task_id}/messages")).json()["data"]
        assert (lines[-1]["role"], lines[-1]["content"]["text"]) == ("assistant", "How many?")
        wrong = await client.post(f"/tasks/{task_id}/message", json={"message": "many"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_answer")
        asked = {"message": 3, "question_id": task["question"]["id"]}
        two = await asyncio.gather(*(client.post(f"/tasks/{task_id}/message", json=asked) for _ in range(2)))
        assert sorted(answer.status_code for answer in two) == [202, 409]
        task = await settled(client, task_id, "waiting_for_input", "failed")
        while task["question"]["text"] != "Which colour?":
            task = await settled(client, task_id, "waiting_for_input")
        answer = (await client.post(f"/tasks/{task_id}/message", json={"message": "blue"})).json()
        assert (answer["answered"], answer["id"]) == (True, answer["message_id"])
        done = await settled(client, task_id)
        assert done["output"] == {"count": 3, "colour": "blue"}
        summary = (await client.get(f"/tasks/{task_id}/summary")).json()
        assert summary["result"] == {"summary": done["output"], "completed_at": done["finished_at"]}
        assert summary["extracted_data"] == done["output"]
        feed = (await client.get(f"/tasks/{task_id}/result")).json()["feed"]
        assert feed[-1]["type"] == "task_complete"
        assert feed[-1]["structuredContent"]["completed_at"] == done["finished_at"]


async def test_the_inbox_lists_what_waits_until_it_is_decided(tmp_path: Path) -> None:
    async with installed(tmp_path) as (_, site, client):
        agent = site.publish(post_ledger)
        ids = [await run(client, agent) for _ in range(3)]
        for task_id in ids:
            await settled(client, task_id, "awaiting_review")
        first = (await client.get("/api/v1/inbox?limit=2")).json()
        rest = (await client.get(f"/api/v1/inbox?cursor={first['next_cursor']}")).json()
        items = first["data"] + rest["data"]
        assert sorted(item["task_id"] for item in items) == sorted(ids)
        assert {item["action"] for item in items} == {"post to ledger"}
        caller = (await client.get("/api/v1/me")).json()["actor"]
        for actor, count in ((caller, 3), ("user:another", 0)):
            own = (await client.get("/api/v1/inbox", params={"created_by": actor})).json()["data"]
            assert len(own) == count
        assert items[0]["task"]["status"] == "awaiting_review"
        bad = await client.post(f"/tasks/{ids[0]}/review", json={"action": "redo"})
        assert (bad.status_code, bad.json()["code"]) == (400, "invalid_decision")
        for arguments in ({}, {"arguments": None}, {"arguments": [1]}, {"arguments": "x"}):
            bad = await client.post(f"/tasks/{ids[0]}/review", json={"action": "edit"} | arguments)
            refusal = bad.json()
            assert (bad.status_code, refusal["code"], refusal["field"]) == (
                400,
                "invalid_decision",
                "arguments",
            )
        bad = await client.post(f"/tasks/{ids[0]}/review", json={"action": "burn"})
        assert (bad.status_code, bad.json()["code"], bad.json()["field"]) == (400, "invalid_field", "action")
        approved = await client.post(f"/tasks/{ids[0]}/review", json={"action": "approve"})
        assert approved.status_code == 200
        edit = {"action": "edit", "arguments": {"total": 13}}
        assert (await client.post(f"/tasks/{ids[1]}/review", json=edit)).status_code == 200
        rejected = {"action": "reject", "reason": "too much"}
        assert (await client.post(f"/tasks/{ids[2]}/review", json=rejected)).status_code == 200
        statuses = [(await settled(client, task_id))["status"] for task_id in ids]
        assert statuses[:2] == ["completed", "completed"]
        assert (await client.get("/api/v1/inbox")).json()["data"] == []
        again = await client.post(f"/tasks/{ids[0]}/review", json={"action": "approve"})
        assert (again.status_code, again.json()["code"]) == (409, "illegal_transition")


async def test_a_one_time_link_answers_once_without_a_key(tmp_path: Path) -> None:
    async with installed(tmp_path) as (api, site, client):
        task_id = await run(client, site.publish(order))
        await settled(client, task_id, "waiting_for_input")
        made = (await client.post(f"/tasks/{task_id}/answer-links", json={"expires_in": 60})).json()
        path = "/answer/" + made["url"].rpartition("/")[2]
        async with api.async_client("") as anybody:
            page = await anybody.get(path)
            assert page.status_code == 200
            assert "How many?" in page.text
            assert "script" not in page.headers["content-security-policy"]
            shown = (await anybody.get(path, headers={"accept": "application/json"})).json()
            assert (shown["text"], shown["task_id"]) == ("How many?", task_id)
            wrong = await anybody.post(path, data={"message": "many"})
            assert (wrong.status_code, "role=alert" in wrong.text) == (400, True)
            right = await anybody.post(path, data={"message": "4"})
            assert (right.status_code, "Thank you" in right.text) == (200, True)
            assert (await anybody.post(path, data={"message": "5"})).status_code == 410
            assert (await anybody.get(path)).status_code == 410
            assert (await anybody.get("/answer/guessed")).status_code == 404
        task = await settled(client, task_id, "waiting_for_input")
        while task["question"]["text"] != "Which colour?":
            task = await settled(client, task_id, "waiting_for_input")
        await client.post(f"/tasks/{task_id}/message", json={"message": "red"})
        assert (await settled(client, task_id))["output"]["count"] == 4


async def test_a_review_is_decided_through_a_link(tmp_path: Path) -> None:
    async with installed(tmp_path) as (api, site, client):
        task_id = await run(client, site.publish(post_ledger))
        await settled(client, task_id, "awaiting_review")
        asked = partial(client.post, f"/tasks/{task_id}/answer-links", headers={"Idempotency-Key": "once"})
        made = (await asked()).json()
        path = "/answer/" + made["url"].rpartition("/")[2]
        async with api.async_client("") as anybody:
            assert "approve" in (await anybody.get(path)).text
            assert (await anybody.post(path, data={"action": "burn"})).status_code == 400
            assert (await anybody.post(path, data={"action": "approve"})).status_code == 200
        assert (await settled(client, task_id))["status"] == "completed"
        repeated = await asked()
        assert (repeated.status_code, repeated.json()["question_id"]) == (201, made["question_id"])
        late = await client.post(f"/tasks/{task_id}/answer-links")
        assert (late.status_code, late.json()["code"]) == (400, "question_not_open")


async def test_a_running_task_is_stopped_at_once_and_stays_so(tmp_path: Path) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def slow(ctx: Context, args: dict[str, Any]) -> str:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return "late"

    async with installed(tmp_path) as (_, site, client):
        site.recorder.on_cancel = site._cancel
        task_id = await run(client, site.publish(slow))
        await asyncio.wait_for(started.wait(), 15)
        stopped = await client.post(f"/tasks/{task_id}/cancel", json={"reason": "not needed"})
        assert stopped.json()["status"] == "stopped"
        await asyncio.wait_for(ended.wait(), 30)
        task = (await client.get(f"/tasks/{task_id}")).json()
        assert (task["status"], task["error"]["message"]) == ("stopped", "not needed")


async def test_a_failed_task_is_retried_as_a_new_one_behind_its_finished_steps(tmp_path: Path) -> None:
    ran: list[str] = []

    def expensive() -> int:
        ran.append("step")
        return 7

    async def fragile(ctx: Context, args: dict[str, Any]) -> int:
        seven = await ctx.step("seven", expensive)
        if len(ran) == 1 and "failed" not in ran:
            ran.append("failed")
            raise AgentError("not today", code="not_today")
        return int(seven)

    async with installed(tmp_path) as (_, site, client):
        task_id = await run(client, site.publish(fragile))
        failed = await settled(client, task_id)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "not_today")
        dead = (await client.get("/api/v1/ops/dead")).json()["data"]
        assert [(d["task_id"], d["error"]["code"]) for d in dead] == [(task_id, "not_today")]
        key = {"idempotency-key": "again"}
        again = await client.post(f"/tasks/{task_id}/retry", headers=key)
        assert (again.status_code, again.json()["retry_of"]) == (202, task_id)
        same = await client.post(f"/tasks/{task_id}/retry", headers=key)
        assert same.json()["task_id"] == again.json()["task_id"]
        done = await settled(client, again.json()["task_id"])
        assert (done["status"], done["output"]) == ("completed", 7)
        assert ran == ["step", "failed"]
        unended = await run(client, site.publish(order))
        await settled(client, unended, "waiting_for_input")
        refused = await client.post(f"/tasks/{unended}/retry")
        assert (refused.status_code, refused.json()["code"]) == (409, "not_ended")


async def test_a_text_that_looks_like_a_sealed_credential_stays_a_text(tmp_path: Path) -> None:
    async def fails(ctx: Context, args: dict[str, Any]) -> None:
        raise AgentError("no")

    async with installed(tmp_path) as (_, site, client):
        task_id = await run(client, site.publish(fails), rules=["********"])
        failed = await settled(client, task_id)
        assert failed["input"]["options"]["rules"] == ["********"]
        again = await client.post(f"/tasks/{task_id}/retry")
        assert again.status_code == 202, again.text
        assert (await settled(client, again.json()["task_id"]))["input"]["options"]["rules"] == ["********"]


async def test_erased_credentials_must_come_again_with_a_retry(tmp_path: Path) -> None:
    async def fails(ctx: Context, args: dict[str, Any]) -> None:
        raise AgentError("no")

    auth = {"type": "bearer", "token": "mcp-s3cret"}
    server = {"serverName": "a", "serverUrl": "http://127.0.0.1:9998/mcp", "auth": auth}
    async with installed(tmp_path) as (_, site, client):
        task_id = await run(client, site.publish(fails), mcp_servers=[server])
        await settled(client, task_id)
        refused = await client.post(f"/tasks/{task_id}/retry")
        assert (refused.status_code, refused.json()["code"]) == (409, "credentials_erased")
        pointer = refused.json()["pointers"][0]
        unknown = await client.post(f"/tasks/{task_id}/retry", json={"credentials": {"/x": "y"}})
        assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_credential")
        again = await client.post(f"/tasks/{task_id}/retry", json={"credentials": {pointer: "new-s3cret"}})
        assert again.status_code == 202
