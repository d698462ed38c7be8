"""MCP servers that send what the protocol does not document, fail in passing, or forget their sessions."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from runyard_common.runs.rules.tasks import Task
from runyard_common.webhooks.rules import callback_events
from runyard_workers.agent.tools import mcp
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import calls, reply, results_of, system_of, tools_of
from tests.fakes.odd_mcp import GOOD, READ, OddMcp
from tests.unit.workers.agent.test_mcp_schemas import doubled
from tests.unit.workers.documents import documents

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
TREE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "name": {"type": "string"}}}


@pytest.fixture
def server() -> Iterator[OddMcp]:
    with OddMcp() as running:
        yield running


@pytest.fixture
async def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Declared]:
    monkeypatch.setattr(mcp, "_WAITS", (0.05, 0.05, 0.05))
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    async with declared_agents(url, tmp_path / "home", allow_private_urls=True) as declared:
        declared.publish()
        yield declared


async def run(declared: Declared, server: OddMcp, *replies: Any, **more: Any) -> Task:
    declared.server.answer(*replies, reply("Done."))
    return await declared.completed(
        "Go.", mcp_servers=[{"serverName": "odd", "serverUrl": server.url} | more]
    )


MANY = {f"p{number}": {"description": "d" * 100} for number in range(2000)}


ODD_TOOLS: dict[str, tuple[Any, bool]] = {  # whether the tool can be used
    "an empty schema": ({"name": "odd", "inputSchema": {}}, True),
    "a null schema": ({"name": "odd", "inputSchema": None}, True),
    "no schema": ({"name": "odd"}, True),
    "a schema that is true": ({"name": "odd", "inputSchema": True}, True),
    "no type": ({"name": "odd", "inputSchema": {"properties": {"a": {}}}}, True),
    "a reference at the root": (
        {"name": "odd", "inputSchema": {"$ref": "#/$defs/Node", "$defs": {"Node": TREE}}},
        True,
    ),
    "alternatives at the root": (
        {"name": "odd", "inputSchema": {"anyOf": [TREE | {"properties": {"a": {}}}, {"type": "null"}]}},
        True,
    ),
    "an output schema without type": (
        {"name": "odd", "inputSchema": {"type": "object"}, "outputSchema": {"properties": {}}},
        True,
    ),
    "an output schema that is none": ({"name": "odd", "outputSchema": {"type": "strnig"}}, True),
    "a description that is none": ({"name": "odd", "description": {"en": "Odd"}}, True),
    "hints that are none": ({"name": "odd", "annotations": {"readOnlyHint": "yes"}}, True),
    "a list of hints": ({"name": "odd", "annotations": []}, True),
    "a null title and odd icons": ({"name": "odd", "title": None, "icons": "none", "_meta": []}, True),
    "a name with signs": ({"name": "odd / näme!"}, True),
    "a schema that is a text": ({"name": "odd", "inputSchema": "object"}, False),
    "arguments that are a list": ({"name": "odd", "inputSchema": {"type": "array"}}, False),
    "an unknown type": (
        {"name": "odd", "inputSchema": {"type": "object", "properties": {"a": {"type": "strnig"}}}},
        False,
    ),
    "a reference to elsewhere": (
        {"name": "odd", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://x/y"}}}},
        False,
    ),
    "a reference to itself": ({"name": "odd", "inputSchema": {"$ref": "#"}}, False),
    "references that double at its root": ({"name": "odd", "inputSchema": doubled("allOf")}, False),
    "no name": ({"inputSchema": {"type": "object"}}, False),
    "a null name": ({"name": None}, False),
    "no object": ("odd", False),
    "a duplicate name": ({"name": "good", "description": "Another."}, False),
    "half a surrogate pair as its name": ({"name": "odd\ud800"}, False),
    "an endless name": ({"name": "n" * 5000}, False),
    "an absurd size": ({"name": "odd", "inputSchema": {"type": "object", "properties": MANY}}, False),
}  # fmt: skip


@pytest.mark.parametrize(("tool", "usable"), ODD_TOOLS.values(), ids=ODD_TOOLS.keys())
@pytest.mark.parametrize("events", [False, True], ids=["json", "stream"])
async def test_one_odd_tool_costs_no_other(
    declared: Declared, server: OddMcp, tool: Any, usable: bool, events: bool
) -> None:
    server.tools, server.events = [GOOD, tool], events
    task = await run(declared, server, calls(odd_good={}))
    offered = tools_of(declared.server.requests[0])
    (connected,) = declared.events(task, "mcp_server")
    assert (connected["state"], server.calls, len(offered)) == ("connected", ["good"], 1 + usable)
    assert all(one["parameters"]["type"] == "object" for one in offered.values())
    if not usable:
        (left_out,) = connected["left_out"]
        assert left_out["reason"]


async def test_a_recursive_tool_is_called_with_its_arguments(declared: Declared, server: OddMcp) -> None:
    server.tools = [{"name": "tree", "inputSchema": {"$ref": "#/$defs/Node", "$defs": {"Node": TREE}}}]
    task = await run(declared, server, calls(odd_tree={"name": "a", "next": {"name": "b"}}))
    assert (server.calls, declared.events(task, "tool_result")[0]["outcome"]) == (["tree"], "ok")


async def test_of_very_many_tools_the_first_are_offered(declared: Declared, server: OddMcp) -> None:
    server.tools = [GOOD, *({"name": f"t{number}"} for number in range(500))]
    task = await run(declared, server)
    assert len(tools_of(declared.server.requests[0])) == 128
    assert "more than 128" in declared.events(task, "mcp_server")[0]["left_out"][0]["reason"]


@pytest.mark.parametrize("tools", [None, {}, "none", []])
async def test_a_list_that_is_none_is_a_server_without_tools(
    declared: Declared, server: OddMcp, tools: Any
) -> None:
    server.tools = tools
    task = await run(declared, server)
    assert declared.events(task, "mcp_server")[0]["state"] == "connected"


PNG = base64.b64encode(documents.image("PNG")).decode()
RESULTS: dict[str, tuple[Any, str]] = {
    "structure only": ({"structuredContent": {"plan": "gold"}}, '{"plan":"gold"}'),
    "structure that is a list": ({"structuredContent": [1, 2]}, "[1,2]"),
    "a structure and null": ({"structuredContent": {"plan": "gold"}, "content": None}, '{"plan":"gold"}'),
    "nothing": ({}, ""),
    "null": (None, ""),
    "a text that is bare": ({"content": "bare"}, "bare"),
    "an unknown kind": ({"content": [{"type": "hologram", "beam": 7}]}, "hologram"),
    "a block without kind": ({"content": [{"text": "lost"}]}, "lost"),
    "a text that is null": ({"content": [{"type": "text", "text": None}]}, ""),
    "a text that is a number": ({"content": [{"type": "text", "text": 5}]}, "5"),
    "half a surrogate pair": (
        {"content": [{"type": "text", "text": "half \ud800 \x00"}]},
        "half \ufffd \ufffd",
    ),
    "a broken image": ({"content": [{"type": "image", "data": "!!", "mimeType": "image/png"}]}, "not shown"),
    "an image of no type": ({"content": [{"type": "image", "data": PNG}]}, "not shown"),
    "an image that models do not see": (
        {"content": [{"type": "image", "data": PNG, "mimeType": "image/svg+xml"}]},
        "not shown",
    ),
    "a sound": ({"content": [{"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}]}, "not shown"),
    "a link": ({"content": [{"type": "resource_link", "uri": "file:///a.txt"}]}, "file:///a.txt"),
    "a resource without address": (
        {"content": [{"type": "resource", "resource": {"text": "inside"}}]},
        "inside",
    ),
    "a long integer": ({"structuredContent": {"n": 2**70}}, str(2**70)),
    "not a number": ({"structuredContent": {"n": float("nan")}}, "null"),
}


@pytest.mark.parametrize(("result", "shown"), RESULTS.values(), ids=RESULTS.keys())
@pytest.mark.parametrize("events", [False, True], ids=["json", "stream"])
async def test_an_odd_result_is_shown_as_far_as_it_can_be(
    declared: Declared, server: OddMcp, result: Any, shown: str, events: bool
) -> None:
    server.result, server.events = result, events
    task = await run(declared, server, calls(odd_good={}))
    assert declared.events(task, "tool_result")[0]["outcome"] == "ok"
    assert shown in results_of(declared.server.requests[1])[0].replace(" :", ":")


async def test_an_error_of_a_tool_is_a_failed_result(declared: Declared, server: OddMcp) -> None:
    server.result = {"isError": True, "content": [{"type": "text", "text": "no such customer"}]}
    task = await run(declared, server, calls(odd_good={}))
    (result,) = declared.events(task, "tool_result")
    assert (result["outcome"], "no such customer" in result["result"]) == ("failed", True)


@pytest.mark.parametrize("key", ["content", "structuredContent"])
async def test_a_huge_result_is_cut_and_marked(declared: Declared, server: OddMcp, key: str) -> None:
    text = "z" * 3_000_000
    server.result = {"content": [{"type": "text", "text": text}]} if key == "content" else {key: {"a": text}}
    await run(declared, server, calls(odd_good={}))
    (result,) = results_of(declared.server.requests[1])
    assert ("Cut off" in result, len(result) < 600_000) == (True, True)


STATUSES = {
    401: ("unauthorized", "401 Unauthorized", False),
    403: ("forbidden", "403 Forbidden", False),
    404: ("not_found", "404 Not Found", False),
    429: ("rate_limited", "429 Too Many Requests", True),
    500: ("unavailable", "500 Internal Server Error", True),
    502: ("unavailable", "502 Bad Gateway", True),
    503: ("unavailable", "503 Service Unavailable", True),
}


@pytest.mark.parametrize("status", STATUSES)
async def test_the_event_has_the_reason_why_a_server_cannot_be_used(
    declared: Declared, server: OddMcp, status: int
) -> None:
    code, words, again = STATUSES[status]
    for method in ("server/discover", "initialize"):
        server.fail(method, status, times=20)
    task = await run(declared, server)
    (failed,) = declared.events(task, "mcp_server")
    assert (failed["state"], failed["code"], failed["http_status"]) == ("failed", code, status)
    assert words in failed["error"]
    assert words in system_of(declared.server.requests[0])
    assert server.methods.count("initialize") == (4 if again else 1)
    (event,) = callback_events.of_log("mcp_server", failed)
    assert (event["type"], event["name"], event["data"]["code"]) == ("agent_event", "mcp_server_failed", code)


async def test_a_closed_port_is_reported_as_such(declared: Declared, server: OddMcp) -> None:
    with OddMcp() as gone:
        pass
    task = await run(declared, gone)
    (failed,) = declared.events(task, "mcp_server")
    assert (failed["code"], "tries" in failed["error"]) == ("connect_failed", True)


async def test_a_web_page_is_no_server(declared: Declared, server: OddMcp) -> None:
    for method in ("server/discover", "initialize"):
        for _ in range(10):
            server.answer(method, Response("<html>Hello</html>", media_type="text/html"))
    task = await run(declared, server)
    (failed,) = declared.events(task, "mcp_server")
    assert (failed["code"], "not MCP" in failed["error"]) == ("not_mcp", True)


async def test_a_server_that_stays_silent_is_reported_as_such(
    declared: Declared, server: OddMcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fakes.raw_server import Call, serving

    monkeypatch.setattr(mcp, "_INIT_SECONDS", 0.3)

    async def silent(call: Call) -> None:
        import asyncio

        await asyncio.sleep(30)

    async with serving(silent) as quiet:
        declared.server.answer(reply("Done."))
        servers = [{"serverName": "odd", "serverUrl": quiet.url()}]
        task = await declared.completed("Go.", mcp_servers=servers)
    (failed,) = declared.events(task, "mcp_server")
    assert (failed["code"], "did not answer in time" in failed["error"]) == ("timeout", True)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
@pytest.mark.parametrize("method", ["initialize", "tools/list", "tools/call"])
async def test_a_passing_failure_is_tried_again(
    declared: Declared, server: OddMcp, method: str, status: int
) -> None:
    server.fail(method, status, times=2, retry_after="0.1")
    task = await run(declared, server, calls(odd_good={}))
    assert (declared.events(task, "mcp_server")[0]["state"], server.calls) == ("connected", ["good"])
    assert declared.events(task, "tool_result")[0]["outcome"] == "ok"


async def test_a_call_that_may_not_be_repeated_is_not(declared: Declared, server: OddMcp) -> None:
    server.tools = [GOOD | {"annotations": {}}]
    server.fail("tools/call", 502)
    task = await run(declared, server, calls(odd_good={}))
    (result,) = declared.events(task, "tool_result")
    assert (result["outcome"], server.calls, server.methods.count("tools/call")) == ("failed", [], 1)
    assert "502 Bad Gateway" in result["result"]


async def test_a_call_that_the_server_put_off_is_made_again_even_then(
    declared: Declared, server: OddMcp
) -> None:
    server.tools = [GOOD | {"annotations": {}}]
    server.fail("tools/call", 429, retry_after="0.1")
    task = await run(declared, server, calls(odd_good={}))
    assert (declared.events(task, "tool_result")[0]["outcome"], server.calls) == ("ok", ["good"])


async def test_a_long_wait_is_left_to_the_agent(declared: Declared, server: OddMcp) -> None:
    server.fail("tools/call", 429, times=9, retry_after="864000")
    task = await run(declared, server, calls(odd_good={}))
    (result,) = declared.events(task, "tool_result")
    assert (result["outcome"], "864000 s" in result["result"]) == ("failed", True)
    assert server.methods.count("tools/call") == 1


async def test_a_refused_call_is_reported(declared: Declared, server: OddMcp) -> None:
    server.fail("tools/call", 403, times=9)
    task = await run(declared, server, calls(odd_good={}))
    (result,) = declared.events(task, "tool_result")
    assert (result["outcome"], "403 Forbidden" in result["result"]) == ("failed", True)
    assert server.methods.count("tools/call") == 1


@pytest.mark.parametrize("annotations", [READ, {}], ids=["read", "irreversible"])
@pytest.mark.parametrize("status", [404, 400])
async def test_a_forgotten_session_begins_again_and_the_call_is_made(
    declared: Declared, server: OddMcp, annotations: dict[str, Any], status: int
) -> None:
    server.tools, server.forgets_with = [GOOD | {"annotations": annotations}], status
    two = calls(("odd_good", {}), ("odd_good", {}))

    def respond(request: dict[str, Any]) -> Any:
        turn = len(results_of(request))
        if turn:
            server.forget()
        return {0: calls(odd_good={}), 1: two, 3: calls(odd_good={})}.get(turn, reply("Done."))

    declared.server.respond = respond
    task = await run(declared, server)
    assert [event["outcome"] for event in declared.events(task, "tool_result")] == ["ok"] * 4
    assert server.calls == ["good"] * 4


async def test_a_protocol_error_of_a_call_is_its_result(declared: Declared, server: OddMcp) -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32602, "message": "unknown customer"}}

    class Echo(Response):
        pass

    server.answer("tools/call", Echo(json.dumps(error), 400, media_type="application/json"))
    task = await run(declared, server, calls(odd_good={}))
    (result,) = declared.events(task, "tool_result")
    assert (result["outcome"], "unknown customer" in result["result"]) == ("failed", True)
