"""Who may call the tools that the workers' modules register: those to whom the operator opened them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard.testing import call, run
from runyard.tools import registered_tools as registry
from runyard.tools import tool
from runyard_common.agents.queries import registered_tools
from runyard_common.agents.queries.registered_tools import Tool
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.rules.tool_access import PublicTools
from runyard_common.agents.service import agents
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.values.errors import Forbidden
from runyard_workers.agent.loop.runner import DeclaredRunner
from runyard_workers.agent_code import catalogue
from tests.api_server import Api, settled, workers_of
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import ModelServer, calls, last_user, reply, tools_of
from tests.members import key, organisation

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
SENT: list[int] = []


@tool(name="wm_send_money", effect="irreversible", review=True)
async def send_money(amount: int) -> str:
    """Send money."""
    SENT.append(amount)
    return "sent"


@tool(name="wm_weather", effect="read", public=True)
async def weather() -> str:
    """The weather, for everybody."""
    return "sunny"


@tool(name="wm_clock", effect="idempotent")
async def clock() -> str:
    """The time, for those that the setting names."""
    return "noon"


PAY: dict[str, Any] = {
    "name": "@sec/pay",
    "instructions": "OPERATORS-PROMPT",
    "tools": ["wm_send_money"],
    "mcp_servers": [
        {
            "serverName": "ledger",
            "serverUrl": "http://127.0.0.1:9/OPERATORS-PATH",
            "auth": {"type": "bearer", "token": "OPERATORS-TOKEN"},
        }
    ],
}


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def api(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server whose operator publishes @sec/pay and @sec/plain for everybody, and opens wm_clock."""
    home = tmp_path_factory.mktemp("tools") / "home"
    with Api(home, model="test-model", model_base_url=model.url, public_tools="wm_clock") as server:
        state = server.state
        published = [parse(PAY), parse({"name": "@sec/plain", "instructions": "Help."})]
        catalogue.publish(state.store, state.org_id, [], published, state.rules.publishing)
        yield server


@pytest.fixture(scope="module")
def tenant(api: Api) -> str:
    """A key of another organisation."""
    return key(api, organisation(api, "tenant"))


@pytest.fixture
async def client(api: Api, tenant: str) -> AsyncIterator[httpx2.AsyncClient]:
    """The tenant's client, with a worker behind the api."""
    async with workers_of(api) as site, api.async_client(tenant) as client:
        site.declared = DeclaredRunner(api.settings, site.store, site.writer)
        yield client
        await site.declared.aclose()


def refused(answer: httpx2.Response) -> tuple[int, Any, Any]:
    return answer.status_code, answer.json().get("code"), answer.json().get("field")


async def publish(client: httpx2.AsyncClient, name: str, *tools: Any) -> httpx2.Response:
    manifest = {"name": name, "instructions": "A thief.", "tools": list(tools)}
    return await client.post("/api/v1/agents/manifests", json=manifest)


CLOSED = (403, "tool_not_open", "tools")


@pytest.mark.parametrize("entry", ["wm_send_money", {"name": "wm_send_money", "effect": "read"}])
async def test_a_tenants_manifest_may_not_list_the_operators_tool(
    client: httpx2.AsyncClient, entry: Any
) -> None:
    answer = await publish(client, "@a/steal", entry)
    assert refused(answer) == CLOSED
    assert "RUNYARD_PUBLIC_TOOLS" in answer.json()["detail"]
    assert (await client.get("/api/v1/agents/@a/steal")).status_code == 404


async def test_a_refusal_does_not_show_whether_there_is_such_a_tool(client: httpx2.AsyncClient) -> None:
    known, unknown = [await publish(client, "@a/steal", name) for name in ("wm_send_money", "wm_nothing_99")]
    assert known.json()["detail"].replace("wm_send_money", "") == unknown.json()["detail"].replace(
        "wm_nothing_99", ""
    )


async def test_a_package_may_not_list_it_either(client: httpx2.AsyncClient) -> None:
    manifest = {"name": "@a/package", "version": "1.0.0", "tools": ["wm_send_money"]}
    answer = await client.post("/api/packages/agents", json={"manifest": manifest, "content": "x"})
    assert answer.status_code == 403
    made = await client.post(
        "/api/packages/agents", json={"manifest": manifest | {"tools": []}, "content": "x"}
    )
    assert made.status_code == 201
    change = {"manifest": manifest, "content": "x", "lockVersion": made.json()["lockVersion"]}
    assert (await client.put("/api/packages/agents/@a/package", json=change)).status_code == 403


@pytest.mark.parametrize("query", ["", "?dry_run=1"])
async def test_a_request_may_not_add_it_to_a_shared_agent(client: httpx2.AsyncClient, query: str) -> None:
    body = {"query": "Steal.", "tools": ["wm_send_money"]}
    assert refused(await client.post(f"/api/v1/agents/@sec/plain/run{query}", json=body)) == CLOSED


async def test_a_run_that_names_it_later_is_refused_when_it_is_due(client: httpx2.AsyncClient) -> None:
    body = {
        "agent": "@sec/plain",
        "schedule": 3600,
        "run": {"query": "Steal.", "tools": ["wm_send_money"]},
    }
    made = await client.post("/api/v1/schedules", json=body)
    if made.status_code == 201:
        answer = await client.post(f"/api/v1/schedules/{made.json()['id']}/trigger")
        assert refused(answer)[:2] == CLOSED[:2], answer.text
    else:
        assert refused(made)[:2] == CLOSED[:2]


@pytest.mark.parametrize("body", [{}, {"tools": ["wm_send_money"]}])
async def test_the_agent_that_the_operator_gave_it_keeps_its_review_for_everybody(
    client: httpx2.AsyncClient, model: ModelServer, body: dict[str, Any]
) -> None:
    asked = f"Pay with {body}."
    model.when(asked, calls(wm_send_money={"amount": 5}))
    answer = await client.post("/api/v1/agents/@sec/pay/run", json=body | {"query": asked})
    assert answer.status_code == 202, answer.text
    task = await settled(client, answer.json()["task_id"], "awaiting_review", "completed", "failed")
    assert (task["status"], SENT) == ("awaiting_review", [])


async def test_nothing_of_the_operators_server_is_in_the_record_of_a_tenants_run(
    client: httpx2.AsyncClient, model: ModelServer
) -> None:
    model.when("Quietly.", reply("Ok."))
    answer = await client.post("/api/v1/agents/@sec/pay/run", json={"query": "Quietly."})
    task_id = answer.json()["task_id"]
    assert (await settled(client, task_id))["status"] == "completed"
    pages = [
        f"/tasks/{task_id}",
        f"/tasks/{task_id}/events",
        f"/api/runs/{task_id}",
        f"/api/runs/{task_id}/logs",
    ]
    shown = "".join([(await client.get(page)).text for page in pages])
    assert "ledger" in shown  # the failure is shown
    left = [word for word in ("127.0.0.1:9", "OPERATORS-", "not reachable") if word in shown]
    assert left == []


async def test_tools_that_are_open_are_for_every_manifest_and_request(
    client: httpx2.AsyncClient, model: ModelServer
) -> None:
    assert (await publish(client, "@a/open", "wm_weather", "wm_clock")).status_code == 201
    model.when("What time?", calls(wm_clock={}), reply("Noon."))
    answer = await client.post("/api/v1/agents/@a/open/run", json={"query": "What time?"})
    assert (await settled(client, answer.json()["task_id"]))["output"] == "Noon."
    model.when("Nice?", reply("Yes."))
    body = {"query": "Nice?", "tools": ["wm_weather"]}
    answer = await client.post("/api/v1/agents/@sec/plain/run", json=body)
    assert (await settled(client, answer.json()["task_id"]))["status"] == "completed"
    (request,) = [request for request in model.requests if last_user(request) == "Nice?"]
    assert set(tools_of(request)) == {"wm_weather"}


@pytest.mark.parametrize("effect", ["read", "nonsense"])
async def test_a_manifest_that_loosens_an_open_tool_is_refused(
    client: httpx2.AsyncClient, effect: str
) -> None:
    answer = await publish(client, "@a/loose", {"name": "wm_clock", "effect": effect})
    assert refused(answer) == (400, "tool_loosened", "tools[0].effect")


async def test_a_manifest_may_tighten_an_open_tool(client: httpx2.AsyncClient, model: ModelServer) -> None:
    tight = {"name": "wm_clock", "effect": "irreversible", "review": True}
    assert (await publish(client, "@a/tight", tight)).status_code == 201
    model.when("Tight?", calls(wm_clock={}))
    answer = await client.post("/api/v1/agents/@a/tight/run", json={"query": "Tight?"})
    task = await settled(client, answer.json()["task_id"], "awaiting_review", "completed", "failed")
    assert task["status"] == "awaiting_review"


async def test_a_tool_that_was_closed_since_is_refused_to_the_agents_that_list_it(
    api: Api, client: httpx2.AsyncClient
) -> None:
    assert (await publish(client, "@a/fair", "wm_weather")).status_code == 201
    closed, opened = (Tool("wm_weather", public, "read", False) for public in (False, True))
    with api.state.store.begin() as tx:
        registered_tools.save(tx, [closed])
    try:
        answer = await client.post("/api/v1/agents/@a/fair/run", json={"query": "Nice?"})
        assert refused(answer) == CLOSED
    finally:
        with api.state.store.begin() as tx:
            registered_tools.save(tx, [opened])


async def test_a_run_that_was_accepted_before_is_refused_by_its_worker(tmp_path: Path) -> None:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as declared:
        declared.publish()
        task = await declared.run("Steal.", tools=["wm_send_money"])
        assert task.error is not None
        assert (task.error["code"], task.error["cause"]) == ("tool_not_open", "input")
        assert not [name for name in registry() if name in str(task.error) and name != "wm_send_money"]


async def test_the_tightest_of_the_tools_and_the_manifests_word_counts(tmp_path: Path) -> None:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as declared:
        declared.publish("@test/loose", tools=[{"name": "wm_send_money", "effect": "read", "review": False}])
        declared.server.answer(calls(wm_send_money={"amount": 7}))
        task_id = await declared.submit("Pay.", agent="@test/loose")
        await declared.asked(task_id)
        assert 7 not in SENT


async def test_a_review_of_an_agent_counts_by_the_name_that_the_manifest_lists(tmp_path: Path) -> None:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as declared:
        declared.publish("@test/clerk")
        declared.publish("@test/boss", tools=["@test/clerk"], review=["@test/clerk"])
        declared.server.answer(calls(clerk={"message": "Pay."}))
        task_id = await declared.submit("Pay.", agent="@test/boss")
        question = await declared.asked(task_id)
        assert question.kind == "review", question


async def test_a_member_may_not_publish_over_an_agent_that_the_operator_shares(api: Api) -> None:
    with api.client() as own:
        answer = own.post("/api/v1/agents/manifests", json={"name": "@sec/plain", "version": "9.0.0"})
        assert (answer.status_code, answer.json()["code"]) == (403, "agent_shared")
        changed = own.patch("/api/v1/agents/@sec/plain", json={"system_prompt": "Steal."})
        assert (changed.status_code, changed.json()["code"]) == (403, "agent_shared")


async def test_a_handover_brings_no_tool_to_an_agent_that_was_not_given_it(desk_of_two: Declared) -> None:
    declared = desk_of_two
    declared.server.answer(calls(transfer_to_own={"reason": "x"}))
    task = await declared.run("Steal.", agents=[{"name": "@a/own", "description": "A thief."}])
    assert task.error is not None
    assert task.error["code"] == "tool_not_open"


@pytest.fixture
async def desk_of_two(tmp_path: Path) -> AsyncIterator[Declared]:
    """The operator's agent, and one of the organisation's own that lists a tool that was closed since."""
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as declared:
        declared.publish()
        own = parse({"name": "@a/own", "instructions": "A thief.", "tools": ["wm_send_money"]})
        opened = PublishRules(None, PublicTools.parse("*"))
        declared.site.transact(lambda tx: agents.publish(tx, declared.site.org, own, rules=opened))
        yield declared


def test_an_author_who_tests_an_agent_may_use_every_tool_of_the_process() -> None:
    manifest = {"name": "@test/author", "instructions": "x", "tools": ["wm_clock"]}
    result = run(manifest, message="Time?", model=[call("wm_clock"), "Noon."])
    assert [event["tool"] for event in result.of_type("tool_call")] == ["wm_clock"]


def test_without_rules_a_registered_tool_is_closed(api: Api) -> None:
    manifest = parse({"name": "@test/closed", "tools": ["wm_clock"]})
    org_id = organisation(api, "plain")
    with pytest.raises(Forbidden), api.state.store.begin() as tx:
        agents.publish(tx, org_id, manifest)
