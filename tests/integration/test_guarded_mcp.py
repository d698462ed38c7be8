"""MCP servers a caller names are called through the guard, by the toolset agents use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn
from mcp.server import MCPServer
from pydantic_ai.mcp import MCPToolset

from runyard_common.outbound import GuardedClient, OutboundPolicy, UrlRefused
from tests.fakes.names import Names
from tests.waiting import until

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def mcp_server() -> AsyncIterator[int]:
    """A real MCP server over streamable HTTP with one tool; its port."""
    tools = MCPServer("tools")

    @tools.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    server = uvicorn.Server(
        uvicorn.Config(tools.streamable_http_app(), port=0, log_level="error", ws="none", lifespan="on")
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined,unused-ignore]
    running = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def test_a_tool_is_called_through_the_guard() -> None:
    names = Names(localhost=["127.0.0.1"])  # the only name the MCP server answers to
    policy = OutboundPolicy.parse(allowed_hosts="localhost")
    async with mcp_server() as port, GuardedClient(policy, resolver=names) as guard:
        toolset = MCPToolset(f"http://localhost:{port}/mcp", id="tools", http_client=guard.http_client())
        async with toolset:
            listed = await toolset.list_tools()
            result = await toolset.direct_call_tool("add", {"a": 2, "b": 3})

    assert [tool.name for tool in listed] == ["add"]
    assert "5" in str(result)
    assert set(names.asked) == {"localhost"}


async def test_a_private_mcp_server_is_refused() -> None:
    names = Names(tools_test=["127.0.0.1"])
    async with mcp_server() as port, GuardedClient(OutboundPolicy(), resolver=names) as guard:
        toolset = MCPToolset(f"http://tools.test:{port}/mcp", id="tools", http_client=guard.http_client())
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the library wraps it as it likes
            async with toolset:
                await toolset.list_tools()

    assert any(isinstance(cause, UrlRefused) for cause in causes(caught.value)), caught.value


def causes(error: BaseException) -> list[BaseException]:
    """The exception and everything beneath it, in groups too."""
    found: list[BaseException] = [error]
    for one in found:
        beneath = [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        found += [each for each in beneath if each is not None and each not in found]
    return found
