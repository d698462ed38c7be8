"""Tools of MCP servers: discovered once per run, called over one session; a dead server is a tool's error.

What passes is tried again: the handshake and the list of tools, and calls that may be made twice. A server that
forgot the session gets a new one, and the call that it refused.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import httpx2
from pydantic_ai.exceptions import ModelRetry, ToolFailed

from runyard import extras
from runyard.context import Effect
from runyard.errors import AgentError
from runyard_common.outbound import GuardedClient
from runyard_common.runs.rules.journal import Step
from runyard_workers.agent import events
from runyard_workers.agent.servers import McpServer
from runyard_workers.agent.tools.mcp_failures import Trouble, judge
from runyard_workers.agent.tools.toolbox import Call, Tool, ToolFailure
from runyard_workers.agent.wire.mcp import (
    HANDSHAKE,
    MOST_TOOLS,
    McpRules,
    McpTransport,
)
from runyard_workers.agent.wire.text import clean
from runyard_workers.attempts.attempt import Attempt

_ENV_FILE: Final = "FASTMCP_ENV_FILE"


@contextmanager
def _settings_of_no_file() -> Iterator[None]:
    """Meanwhile the library beneath reads no `.env` of the current folder: that is an author's, or the operator's."""
    before = os.environ.get(_ENV_FILE)
    os.environ.setdefault(_ENV_FILE, os.devnull)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_ENV_FILE, None)


try:
    with _settings_of_no_file():
        from pydantic_ai.mcp import MCPToolset
except ImportError:  # the extra `mcp` is not installed: a connection cannot be made
    if extras.installed("fastmcp"):
        raise

_INIT_SECONDS: Final = 15.0
#: Tries of one handshake or call, the waits between them, and the time for all of a handshake's, in seconds.
_MOST_TRIES: Final = 4
_WAITS: Final = (0.5, 1.0, 2.0)
_LONGEST_WAIT: Final = 10.0
_HANDSHAKE_SECONDS: Final = 30.0
#: How much longer than its server's limit a call may last: the limit is the server's, the rest is for tries.
_GRACE_SECONDS: Final = 15.0
T = TypeVar("T")


@dataclass(slots=True)
class _Session:
    """A session with a server; it is closed when it is no longer wanted and no call uses it."""

    toolset: MCPToolset[Any]
    stack: AsyncExitStack
    calls: int = 0
    retired: bool = False


class McpUnusable(Exception):
    """The server could not be used, however often it was tried."""

    def __init__(self, trouble: Trouble, tries: int) -> None:
        self.trouble = trouble
        more = f" ({tries} tries)" if tries > 1 else ""
        super().__init__(trouble.message + more)


class McpConnection:
    """One server of one run. Connects when first needed, and again after it was lost."""

    def __init__(self, attempt: Attempt, server: McpServer, guard: GuardedClient, namesakes: int = 0) -> None:
        """`namesakes`: how many other servers of the run had this name before; their journal entries differ.

        Raises `AgentError` missing_extra where the client of such servers is not installed.
        """
        if not extras.installed("fastmcp"):
            raise AgentError(extras.advice("An MCP server", "mcp"), code="missing_extra")
        self.server = server
        self._key = f"mcp:{server.name[:150]}" + (f"#{namesakes + 1}" if namesakes else "")
        self.trouble: str | None = None  # why it could not be reached, for the agent to know
        self._attempt = attempt
        self._guard = guard
        self._lock = asyncio.Lock()
        self._rules = McpRules()
        self._session: _Session | None = None

    async def tools(self) -> list[Tool]:
        """The server's tools, as they were when this run first saw them; none when it cannot be reached."""
        entry = await self._attempt.recorded(self._key)
        if entry is not None:
            return self._offered(entry.value)
        deadline = time.monotonic() + _HANDSHAKE_SECONDS
        try:
            found = await self._tried(self._list, HANDSHAKE, "read", deadline)
        except McpUnusable as failure:
            self.trouble = str(failure)
            more = {"code": failure.trouble.code, "http_status": failure.trouble.status}
            await self._attempt.emit(
                events.mcp_server(self.server.name, "failed", error=self.trouble, **more)
            )
            return []
        left_out = [{"tool": name, "reason": why} for name, why in self._rules.left_out.items()]
        listed: dict[str, Any] = {"tools": [tool["name"] for tool in found]}
        if left_out:
            listed["left_out"] = left_out[:MOST_TOOLS]
        logged = events.mcp_server(self.server.name, "connected", **({} if self.server.private else listed))
        step = Step(self._key, "value", self.server.name, "read")
        await self._attempt.end(step, found, events=(logged,))
        return self._offered(found)

    async def aclose(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            await _close(session)

    # -- tools ---------------------------------------------------------------------------------------------

    async def _list(self, session: _Session) -> list[dict[str, Any]]:
        async with asyncio.timeout(_INIT_SECONDS):
            listed = await session.toolset.list_tools()
        found: dict[str, dict[str, Any]] = {}
        for tool in listed:  # of several pages
            if tool.name in found or len(found) >= MOST_TOOLS:
                why = (
                    "another tool of the server has its name" if tool.name in found else "there are too many"
                )
                self._rules.left_out.setdefault(tool.name, why)
            else:
                found[tool.name] = _described(tool)
        return list(found.values())

    def _offered(self, found: Sequence[dict[str, Any]]) -> list[Tool]:
        chosen = self.server.tools
        return [self._tool(one) for one in found if chosen is None or one["name"] in chosen]

    def _tool(self, found: dict[str, Any]) -> Tool:
        server, name = self.server, found["name"]
        effect = server.effects.get(name) or _effect(found["annotations"] or {})
        return Tool(
            f"{server.name}_{name}",
            found["description"] or name,
            found["schema"],
            self._caller(name, effect),
            effect,
            source=f"mcp:{server.name}",
            seconds=server.seconds + _GRACE_SECONDS,
        )

    def _caller(self, name: str, effect: Effect) -> Callable[[Call], Awaitable[Any]]:
        async def run(call: Call) -> Any:
            key = f"{self._attempt.task.id}/{call.key}"

            async def once(session: _Session) -> Any:
                meta = {"idempotencyKey": key}
                return await session.toolset.direct_call_tool(name, call.arguments, metadata=meta)

            deadline = time.monotonic() + self.server.seconds
            try:
                return await self._tried(once, key, effect, deadline)
            except McpUnusable as failure:
                raise ToolFailure(f"The MCP server {self.server.name} failed: {failure}") from failure

        return run

    # -- tries ---------------------------------------------------------------------------------------------

    async def _tried(
        self, work: Callable[[_Session], Awaitable[T]], key: str, effect: Effect, deadline: float
    ) -> T:
        """The result of `work`, tried again where that is safe and may help, until `deadline` (monotonic).

        Raises `ToolFailure` for the server's own answer, `McpUnusable` for the lack of one.
        """
        for number in range(1, _MOST_TRIES + 1):
            session: _Session | None = None
            try:
                session = await self._connected()
                session.calls += 1
                return await work(session)
            except Exception as error:
                # The handshake before a call has no key of its own.
                noted = self._rules.failure(key) or (
                    self._rules.failure(HANDSHAKE) if session is None else None
                )
                if noted is None and isinstance(error, ToolFailed):
                    raise ToolFailure(clean(str(error))) from error
                trouble = judge(error, noted)
                if noted is None and isinstance(error, ModelRetry) and trouble.code == "failed":
                    raise ToolFailure(clean(str(error))) from error  # the server refuses this very call
                await self._retire(session)
                safe = effect != "irreversible" or trouble.unsent or session is None
                wait = _wait(trouble, number)
                if (
                    number == _MOST_TRIES
                    or not trouble.again
                    or not safe
                    or time.monotonic() + wait > deadline
                ):
                    raise McpUnusable(self._shown(trouble), number) from error
                await asyncio.sleep(wait)
            finally:
                if session is not None:
                    await self._release(session)
        raise AssertionError("the last try returns or raises")

    def _shown(self, trouble: Trouble) -> Trouble:
        """What went wrong, as the run's organisation may know it: not where another's server is."""
        if not self.server.private:
            return trouble
        return replace(trouble, message=f"it could not be used ({trouble.code})")

    async def _connected(self) -> _Session:
        async with self._lock:
            if self._session is None:
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
                    async with asyncio.timeout(_INIT_SECONDS):
                        await stack.enter_async_context(toolset)
                except BaseException:
                    await stack.aclose()
                    raise
                self._session = _Session(toolset, stack)
            return self._session

    def _client(self) -> httpx2.AsyncClient:
        headers = dict(self.server.headers)
        if self.server.token is not None:
            headers["Authorization"] = f"Bearer {self.server.token}"
        return self._guard.http_client(
            headers=headers,
            timeout=_INIT_SECONDS,
            read=self.server.seconds,
            seconds=max(self.server.seconds, _INIT_SECONDS),
            wrap=lambda inner: McpTransport(inner, self._rules, self._guard.max_answer_bytes),
        )

    async def _retire(self, session: _Session | None) -> None:
        """The next call opens another session; calls under way keep this one."""
        if session is not None:
            session.retired = True
        if self._session is session:
            self._session = None

    async def _release(self, session: _Session) -> None:
        session.calls -= 1
        if session.retired and session.calls == 0:
            await _close(session)


async def _close(session: _Session) -> None:
    try:
        async with asyncio.timeout(5):
            await session.stack.aclose()
    except Exception:  # noqa: BLE001, S110 - it was broken; there is nothing left to close
        pass


def _wait(trouble: Trouble, number: int) -> float:
    """Seconds until the next try; more than any deadline allows where the server asks for that."""
    if trouble.forgotten:
        return 0.0
    backoff = _WAITS[min(number, len(_WAITS)) - 1] * random.uniform(0.75, 1.25)
    asked = trouble.retry_after or 0.0
    return float("inf") if asked > _LONGEST_WAIT else max(backoff, asked)


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
    """By MCP's tool annotations; without them a tool may change things and must not be repeated blindly."""
    if annotations.get("readOnlyHint"):
        return "read"
    return "idempotent" if annotations.get("idempotentHint") else "irreversible"
