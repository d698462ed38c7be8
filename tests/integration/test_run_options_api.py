"""Options of a run through the native API to the model and back: money, tools, models; refused before stored."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard.tools import tool
from runyard_common.agents.service.model_choice import check
from runyard_common.datastores.service import datastores
from runyard_common.settings import Settings
from runyard_common.values.errors import InvalidRequest
from runyard_scheduler.duties import Admit
from runyard_workers.agent.loop.runner import DeclaredRunner
from tests.api_server import Api, settled, workers_of
from tests.fakes.model_server import ModelServer, calls, last_user, reply, tools_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
BOT = "/api/v1/agents/@test/bot/run"
PRICES = '{"test-model": {"input": 0, "output": 1000000}}'  # a dollar for each output token


@tool(name="api_peek", effect="read")
async def peek() -> str:
    """Peek."""
    return "seen"


@tool(name="api_poke", effect="read")
async def poke() -> str:
    """Poke."""
    return "moved"


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def api(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    home = tmp_path_factory.mktemp("options") / "home"
    models = {
        "model": "test-model",
        "model_base_url": model.url,
        "model_prices": PRICES,
        "public_tools": "api_peek,api_poke",
    }
    with Api(home, **models) as server:
        with server.client() as client:
            manifest = {
                "name": "@test/bot",
                "instructions": "You are a bot.",
                "tools": ["api_peek", "ask_user"],
            }
            assert client.post("/api/v1/agents/manifests", json=manifest).status_code == 201
        yield server


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """A client, with a worker behind the api."""
    async with workers_of(api) as site, api.async_client() as client:
        site.declared = DeclaredRunner(api.settings, site.store, site.writer)
        yield client
        await site.declared.aclose()


async def submit(client: httpx2.AsyncClient, **body: Any) -> str:
    answer = await client.post(BOT, json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def spent(client: httpx2.AsyncClient, model: ModelServer, query: str) -> tuple[str, dict[str, Any]]:
    """A run with an output of three tokens against its two dollars, and the review it waits for."""
    looks = replace(calls(api_peek={}), usage={"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4})
    model.when(query, looks, reply("Looked."))
    task_id = await submit(client, query=query, budget=2)
    task = await settled(client, task_id, "awaiting_review")
    return task_id, task["review"]


async def test_a_budget_spent_in_mid_run_asks_for_more_and_goes_on_with_it(
    client: httpx2.AsyncClient, model: ModelServer
) -> None:
    task_id, review = await spent(client, model, "Spend and go on.")
    assert (review["kind"], review["action"], review["budget"], review["spent"]) == ("review", "top_up", 2, 3)
    assert review["arguments"] == {"budget": 4}
    inbox = (await client.get("/api/v1/inbox")).json()["data"]
    assert [one["task_id"] for one in inbox] == [task_id]
    assert (await client.post(f"/tasks/{task_id}/review", json={"action": "approve"})).status_code == 200
    task = await settled(client, task_id)
    assert (task["status"], task["output"], task["cost"]) == ("completed", "Looked.", 4)


async def test_a_budget_is_renewed_as_often_as_it_runs_out(
    client: httpx2.AsyncClient, model: ModelServer
) -> None:
    task_id, review = await spent(client, model, "Spend and set.")
    wrong = {"action": "edit", "arguments": {"budget": -1}}
    assert (await client.post(f"/tasks/{task_id}/review", json=wrong)).status_code == 400
    less = {"action": "edit", "arguments": {"budget": 2.5}}  # still less than what is spent
    assert (await client.post(f"/tasks/{task_id}/review", json=less)).status_code == 200
    task = await settled(client, task_id, "awaiting_review")
    assert (task["review"]["budget"], task["review"]["id"] != review["id"]) == (2.5, True)
    more = {"action": "edit", "arguments": {"budget": 3.5}}
    assert (await client.post(f"/tasks/{task_id}/review", json=more)).status_code == 200
    assert (await settled(client, task_id))["status"] == "completed"


async def test_a_budget_that_is_not_raised_ends_the_run(
    client: httpx2.AsyncClient, model: ModelServer
) -> None:
    task_id, _ = await spent(client, model, "Spend and stop.")
    asked = len(model.requests)
    await client.post(f"/tasks/{task_id}/review", json={"action": "reject", "reason": "Enough."})
    task = await settled(client, task_id)
    assert (task["status"], task["error"]["code"], task["error"]["cause"]) == (
        "failed",
        "budget_exhausted",
        "limit",
    )
    assert (task["error"]["message"], len(model.requests)) == ("Enough.", asked)


@pytest.mark.parametrize(
    ("tools", "offered"),
    [
        (None, {"api_peek", "ask_user"}),
        (["api_peek"], {"api_peek"}),
        (["ask_user", "api_poke"], {"ask_user", "api_poke"}),
        ([], set()),
    ],
)
async def test_the_tools_of_a_run_are_those_it_names(
    client: httpx2.AsyncClient, model: ModelServer, tools: list[str] | None, offered: set[str]
) -> None:
    model.when(f"With {tools}.", reply("Ok."))
    body: dict[str, Any] = {"query": f"With {tools}."} | ({} if tools is None else {"tools": tools})
    assert (await settled(client, await submit(client, **body)))["status"] == "completed"
    (request,) = [request for request in model.requests if last_user(request) == f"With {tools}."]
    assert set(tools_of(request)) == offered


async def test_a_tool_that_is_not_open_is_refused_before_the_run_is_stored(
    client: httpx2.AsyncClient,
) -> None:
    refused = await client.post(BOT, json={"query": "Go.", "tools": ["no_such_tool"]})
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
        403,
        "tool_not_open",
        "tools",
    )


async def test_the_model_of_a_run_is_the_one_it_names(client: httpx2.AsyncClient, model: ModelServer) -> None:
    model.when("Which?", reply("Me."))
    task_id = await submit(client, query="Which?", model="openai:other", mode="max")
    assert (await settled(client, task_id))["status"] == "completed"
    assert [r["model"] for r in model.requests if last_user(r) == "Which?"] == ["other"]


async def test_no_more_runs_ask_a_model_than_its_limit_allows(
    api: Api, client: httpx2.AsyncClient, model: ModelServer
) -> None:
    async with limited(client, selector="other", max_concurrent=1):
        release = threading.Event()
        model.when("One by one.", *[reply("Ok.", hold=release)] * 3)
        seen = len(model.requests)
        ids = [await submit(client, query="One by one.", model="other") for _ in range(3)]
        for id_ in ids[1:]:
            waiting = (await client.get(f"/tasks/{id_}")).json()
            assert (waiting["status"], waiting["queue"]["limit"]) == ("queued", "model:other")
        model.when("With None.", reply("Ok."))
        free = await submit(client, query="With None.", model="another")
        assert (await settled(client, free))["status"] == "completed"  # it keeps the model of no other run
        assert len([r for r in model.requests[seen:] if r["model"] == "other"]) <= 1
        release.set()
        assert [(await settled(client, id_))["status"] for id_ in ids] == ["completed"] * 3


async def test_a_models_tokens_of_a_minute_hold_the_next_run(
    api: Api, client: httpx2.AsyncClient, model: ModelServer
) -> None:
    async with limited(client, selector="openai:thirsty", tokens_per_minute=5):
        used = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
        model.when("Drink.", reply("Ok.", usage=used), reply("Ok again."))
        first = await submit(client, query="Drink.", model="openai:thirsty")
        assert (await settled(client, first))["status"] == "completed"
        second = await submit(client, query="Drink.", model="openai:thirsty")
        waiting = (await client.get(f"/tasks/{second}")).json()
        assert (waiting["status"], waiting["queue"]["limit"]) == ("queued", "model:openai:thirsty")
        admit = Admit(api.state.store)
        await asyncio.to_thread(admit.run_once)
        assert (await client.get(f"/tasks/{second}")).json()["status"] == "queued"
        with api.state.store.begin() as tx:
            tx.conn.execute(text("UPDATE turns SET at = at - 61"))
        await asyncio.to_thread(admit.run_once)
        assert (await settled(client, second))["output"] == "Ok again."


@asynccontextmanager
async def limited(client: httpx2.AsyncClient, **bounds: Any) -> AsyncIterator[None]:
    """A limit on a model, while the test runs."""
    made = await client.post("/api/v1/limits", json={"kind": "model"} | bounds)
    assert made.status_code == 201, made.text
    yield
    assert (await client.delete(f"/api/v1/limits/{made.json()['id']}")).status_code == 204


async def test_a_query_names_its_datastore_and_its_parameters(api: Api) -> None:
    where = "postgresql://a:b@db.example.com/shop"
    with api.state.store.begin() as tx:
        made = datastores.create(tx, api.state.sealer, api.state.org_id, "shop", "database", where)
    body = {
        "query": "Go.",
        "datastores": [{"id": made.id, "name": "shop"}],
        "queries": [
            {
                "name": "of",
                "description": "Of.",
                "query": "SELECT ?",
                "datastore": "shop",
                "parameters": ["n"],
            }
        ],
    }
    async with api.async_client() as client:
        accepted = await client.post(BOT, json=body)
        task = (await client.get(accepted.headers["location"])).json()
    assert task["input"]["options"]["queries"] == body["queries"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"model": "anthropic:claude"}, "model_key_missing", "model"),
        ({"model": "google:"}, "unknown_model", "model"),
        ({"budget": 0}, "invalid_field", "budget"),
        ({"budget": True}, "invalid_field", "budget"),
        ({"budget": 1e7}, "invalid_field", "budget"),
        ({"tools": "api_peek"}, "invalid_field", "tools"),
        ({"tools": [""]}, "invalid_field", "tools[0]"),
        ({"model": ""}, "invalid_field", "model"),
    ],
)
async def test_what_cannot_be_run_is_refused_before_anything_is_stored(
    api: Api, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], code: str, field: str
) -> None:
    for name in ("ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    stored = api.count_tasks()
    async with api.async_client() as client:
        answer = await client.post(BOT, json={"query": "Go."} | body)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, code, field)
    assert api.count_tasks() == stored


KEYS = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": ""}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("openai:gpt-6", "model_key_missing"),
        ("google:gemini", "model_key_missing"),
        ("unknown:nothing", "unknown_model"),
        ("plain", "unknown_model"),
    ],
)
def test_a_model_that_cannot_be_asked_here_is_refused(name: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(Settings(), name, KEYS)
    assert (refused.value.code, refused.value.field) == (code, "model")


@pytest.mark.parametrize("name", ["anthropic:claude", "local"])
def test_a_model_with_a_key_or_without_need_of_one_is_taken(name: str) -> None:
    check(Settings(), name, KEYS)
    check(Settings(model_base_url="http://here/v1"), "plain", {})
