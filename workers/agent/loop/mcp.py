"""Tools of MCP servers: discovered once per run, called over one session; a dead server is a tool's error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx2
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.mcp import MCPToolset

from common.domain.errors import RunyardError
from common.outbound import GuardedClient
from workers.agent import events
from workers.agent.servers import McpServer
from workers.agent.tools.base import Call, Effect, Tool, ToolFailure
from workers.attempt import Attempt

_INIT_SECONDS = 15.0
_LONGEST_REASON = 300


class McpConnection:
    """One server of one run. Connects when first needed, and anew after it was lost."""

    def __init__(self, attempt: Attempt, server: McpServer, guard: GuardedClient, namesakes: int = 0) -> None:
        """`namesakes`: how many other servers of the run had this name before; their journal entries stay apart."""
        self.server = server
        self._key = f"mcp:{server.name[:150]}" + (f"#{namesakes + 1}" if namesakes else "")
        self.trouble: str | None = None  # why it could not be reached, for the agent to know
        self._attempt = attempt
        self._guard = guard
        self._lock = asyncio.Lock()
        self._toolset: MCPToolset[Any] | None = None
        self._stack: AsyncExitStack | None = None

    async def tools(self) -> list[Tool]:
        """The server's tools, as they were when this run first saw them; none when it cannot be reached."""
        entry = self._attempt.replay.entry(self._key)
        if entry is not None:
            return self._offered(entry["value"])
        try:
            async with asyncio.timeout(_INIT_SECONDS):
                found = [_described(tool) for tool in await (await self._connected()).list_tools()]
        except Exception as error:  # noqa: BLE001 - whatever a server or the way to it does wrong
            await self._drop()
            self.trouble = reason(error)
            await self._attempt.emit(events.mcp_server(self.server.name, "failed", error=self.trouble))
            return []
        logged = events.mcp_server(self.server.name, "connected", tools=[tool["name"] for tool in found])
        await self._attempt.end(self._key, "value", self.server.name, "read", found, events=(logged,))
        return self._offered(found)

    async def aclose(self) -> None:
        """End the session."""
        await self._drop()

    def _offered(self, found: Sequence[dict[str, Any]]) -> list[Tool]:
        chosen = self.server.tools
        return [self._tool(one) for one in found if chosen is None or one["name"] in chosen]

    def _tool(self, found: dict[str, Any]) -> Tool:
        server, name = self.server, found["name"]
        return Tool(
            f"{server.name}_{name}",
            found["description"] or name,
            found["schema"],
            self._caller(name),
            server.effects.get(name) or _effect(found["annotations"] or {}),
            source=f"mcp:{server.name}",
            seconds=server.seconds,
        )

    def _caller(self, name: str) -> Callable[[Call], Awaitable[Any]]:
        async def run(call: Call) -> Any:
            key = f"{self._attempt.task.id}/{call.key}"
            try:
                toolset = await self._connected()
                return await toolset.direct_call_tool(name, call.arguments, metadata={"idempotencyKey": key})
            except (ToolFailed, ModelRetry) as error:
                raise ToolFailure(str(error)) from error
            except Exception as error:  # the session broke: the next call opens another
                await self._drop()
                raise ToolFailure(f"The MCP server {self.server.name} failed: {reason(error)}") from error

        return run

    async def _connected(self) -> MCPToolset[Any]:
        async with self._lock:
            if self._toolset is None:
                stack = AsyncExitStack()
                client = await stack.enter_async_context(self._client())
                toolset: MCPToolset[Any] = MCPToolset(
                    self.server.url,
                    id=self.server.name,
                    http_client=client,
                    init_timeout=_INIT_SECONDS,
                    read_timeout=self.server.seconds,
                    tool_error_behavior="failed",
                )
                try:
                    await stack.enter_async_context(toolset)
                except BaseException:
                    await stack.aclose()
                    raise
                self._toolset, self._stack = toolset, stack
            return self._toolset

    def _client(self) -> httpx2.AsyncClient:
        headers = dict(self.server.headers)
        if self.server.token is not None:
            headers["Authorization"] = f"Bearer {self.server.token}"
        return self._guard.http_client(headers=headers, timeout=_INIT_SECONDS, read=self.server.seconds)

    async def _drop(self) -> None:
        stack, self._stack, self._toolset = self._stack, None, None
        if stack is None:
            return
        try:
            async with asyncio.timeout(5):
                await stack.aclose()
        except Exception:  # noqa: BLE001, S110 - it was broken; there is nothing left to close
            pass


def reason(error: BaseException) -> str:
    """Why a server could not be used, in the words of the cause that knows."""
    causes = [error]
    for cause in causes:
        if isinstance(cause, RunyardError):
            return cause.message[:_LONGEST_REASON]
        beneath = [cause.__cause__, cause.__context__, *getattr(cause, "exceptions", ())]
        causes += [one for one in beneath if one is not None and one not in causes]
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return (str(error) or type(error).__name__)[:_LONGEST_REASON]


def _described(tool: Any) -> dict[str, Any]:
    annotations = tool.annotations.model_dump(by_alias=True, exclude_none=True) if tool.annotations else None
    schema = getattr(tool, "input_schema", None) or getattr(tool, "inputSchema", None) or {}
    return {
        "name": tool.name,
        "description": tool.description,
        "schema": {"type": "object", **schema},
        "annotations": annotations,
    }


def _effect(annotations: dict[str, Any]) -> Effect:
    """As MCP's tool annotations say; without them a tool may change things and must not be repeated blindly."""
    if annotations.get("readOnlyHint"):
        return "read"
    return "idempotent" if annotations.get("idempotentHint") else "irreversible"
