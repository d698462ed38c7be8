"""Tools of real MCP servers in processes of their own: both transports, credentials, servers that fail or die."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard_common.runs.rules.lifecycle import Status
from tests.declared import Declared, declared_agents
from tests.fakes.mcp_servers import McpProcess, mcp_process
from tests.fakes.model_server import calls, reply, results_of, system_of, tools_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def crm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpProcess]:
    with mcp_process(tmp_path_factory.mktemp("mcp"), token="s3cret") as running:
        yield running


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    async with declared_agents(url, tmp_path / "home", allow_private_urls=True) as declared:
        declared.publish()
        yield declared


def bearer(server: McpProcess, **more: Any) -> dict[str, Any]:
    auth = {"type": "bearer", "token": "s3cret"}
    return {"serverName": "crm", "serverUrl": server.url, "auth": auth} | more


async def test_a_tool_of_an_mcp_server_is_offered_and_called(declared: Declared, crm: McpProcess) -> None:
    declared.server.answer(calls(crm_find_customer={"name": "Ada"}), reply("Ada has the gold plan."))
    task = await declared.completed("Which plan has Ada?", mcp_servers=[bearer(crm)])
    assert "crm_find_customer" in tools_of(declared.server.requests[0])
    assert '"plan":"gold"' in results_of(declared.server.requests[1])[0]
    (connected,) = declared.events(task, "mcp_server")
    assert (connected["state"], "find_customer" in connected["tools"]) == ("connected", True)
    assert declared.events(task, "tool_call")[0]["source"] == "mcp:crm"


async def test_an_oauth_access_token_is_sent_as_a_bearer(declared: Declared, crm: McpProcess) -> None:
    declared.server.answer(calls(crm_find_customer={"name": "Bob"}), reply("Gold."))
    auth = {"type": "oauth", "oauth": {"accessToken": "s3cret"}}
    await declared.completed("Bob's plan?", mcp_servers=[bearer(crm, auth=auth)])
    assert "find Bob" in crm.calls


async def test_credentials_from_the_sealed_part_of_the_request_are_used(
    declared: Declared, crm: McpProcess
) -> None:
    declared.server.answer(calls(crm_find_customer={"name": "Cleo"}), reply("Gold."))
    sealed = declared.site.sealer.seal({"/mcp_servers/0/auth/token": "s3cret"})
    given = {"options": {"mcp_servers": [bearer(crm, auth={"type": "bearer", "token": "sealed"})]}}
    task_id = await declared.site.submit("@test/bot", None, "Cleo's plan?", input=given, secrets=sealed)
    assert (await declared.site.ended(task_id)).output == "Gold."
    assert "find Cleo" in crm.calls


async def test_the_older_sse_endpoint_works_too(declared: Declared, tmp_path: Path) -> None:
    with mcp_process(tmp_path, kind="sse") as old:
        declared.server.answer(calls(old_find_customer={"name": "Ada"}), reply("Gold."))
        await declared.completed("Plan?", mcp_servers=[{"serverName": "old", "serverUrl": old.url}])
        assert old.calls == ["find Ada"]


async def test_what_a_tool_raises_there_is_an_error_the_agent_sees(
    declared: Declared, crm: McpProcess
) -> None:
    declared.server.answer(calls(crm_explode={}), reply("It failed."))
    task = await declared.completed("Try.", mcp_servers=[bearer(crm)])
    assert task.output == "It failed."
    assert declared.events(task, "tool_result")[0]["outcome"] == "failed"


async def test_a_wrong_token_leaves_the_agent_without_the_server_but_running(
    declared: Declared, crm: McpProcess
) -> None:
    declared.server.answer(reply("I cannot look it up."))
    server = bearer(crm, auth={"type": "bearer", "token": "wrong"})
    task = await declared.completed("Plan?", mcp_servers=[server])
    assert [e["state"] for e in declared.events(task, "mcp_server")] == ["failed"]
    assert "crm is not reachable" in system_of(declared.server.requests[0])


async def test_a_server_that_dies_in_a_call_is_that_calls_error(declared: Declared, tmp_path: Path) -> None:
    with mcp_process(tmp_path) as frail:
        declared.server.answer(
            calls(frail_die={}), calls(frail_find_customer={"name": "Ada"}), reply("The server is gone.")
        )
        servers = [{"serverName": "frail", "serverUrl": frail.url}]
        task = await declared.completed("Look.", mcp_servers=servers)
    assert task.output == "The server is gone."
    assert [e["outcome"] for e in declared.events(task, "tool_result")] == ["failed", "failed"]


async def test_private_addresses_are_refused_unless_the_operator_allows_them(
    tmp_path: Path, crm: McpProcess
) -> None:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as guarded:
        guarded.publish()
        guarded.server.answer(reply("I cannot."))
        task = await guarded.completed("Plan?", mcp_servers=[bearer(crm)])
        (failed,) = guarded.events(task, "mcp_server")
        assert "RUNYARD_ALLOWED_HOSTS" in failed["error"]


async def test_a_reviewed_remote_tool_waits_and_runs_once_after_a_new_worker_resumes(
    declared: Declared, crm: McpProcess
) -> None:
    declared.publish("@test/writer", review=["send_letter"], mcp_servers=[bearer(crm)])
    declared.server.answer(calls(crm_send_letter={"to": "Zoe"}), reply("Sent."))
    task_id = await declared.submit("Write to Zoe.", agent="@test/writer")
    review = await declared.asked(task_id)
    assert review.payload["action"] == "crm_send_letter"
    declared.decide(task_id, "approve")
    task = await declared.site.ended(task_id)
    assert (task.status, task.output, task.attempt) == (Status.COMPLETED, "Sent.", 2)
    assert crm.calls.count("letter Zoe") == 1
    assert len(declared.events(task, "mcp_server")) == 1  # discovered once


async def test_a_server_without_a_name_or_with_bad_auth_is_a_clear_refusal(
    declared: Declared, crm: McpProcess
) -> None:
    for server, field in (
        ({"serverUrl": crm.url}, "serverName"),
        (bearer(crm, auth={"type": "bearer"}), "auth"),
    ):
        task = await declared.run("Plan?", mcp_servers=[server])
        assert task.error is not None
        assert (task.error["code"], task.error["cause"]) == ("invalid_mcp_server", "input")
        assert task.error["details"]["field"] == f"mcp_servers[0].{field}"


async def test_two_speakers_servers_of_one_name_are_kept_apart(
    declared: Declared, crm: McpProcess, tmp_path: Path
) -> None:
    with mcp_process(tmp_path, kind="sse") as theirs:
        declared.publish("@test/legal", mcp_servers=[{"serverName": "crm", "serverUrl": theirs.url}])
        declared.publish("@test/front", mcp_servers=[bearer(crm)])
        declared.server.answer(
            calls(crm_find_customer={"name": "Dora"}), calls(transfer_to_legal={}),
            calls(crm_find_customer={"name": "Emil"}), reply("Gold, both."),
        )  # fmt: skip
        legal = [{"name": "@test/legal", "description": "Law."}]
        await declared.completed("Plans?", agent="@test/front", agents=legal)
        assert ("find Dora" in crm.calls, "find Emil" in crm.calls, theirs.calls) == (
            True,
            False,
            ["find Emil"],
        )
