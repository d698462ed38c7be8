"""Gather a run's tools from its manifest, its request and what they name, as far as the run may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runyard.tools import registered_tools
from runyard_common.agents.rules import tool_access
from runyard_common.agents.rules.tool_access import PublicTools
from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from runyard_common.values.errors import NotFound
from runyard_workers.agent.failures import BadOptions
from runyard_workers.agent.plan import AgentConfig, Plan
from runyard_workers.agent.servers import McpServer
from runyard_workers.agent.services import Services
from runyard_workers.agent.tools import Tool, Toolbox, ask
from runyard_workers.agent.tools.ask import ask_user
from runyard_workers.agent.tools.children import agent_tool
from runyard_workers.agent.tools.datastores import DatastoreTools
from runyard_workers.agent.tools.mcp import McpConnection
from runyard_workers.agent.tools.python import python_tool
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.isolation.threads import in_engine_thread

_OVERRIDES = ("description", "seconds")


class ToolLoader:
    """Loads the tools of one run's agents; its MCP sessions end with it."""

    def __init__(self, services: Services, attempt: Attempt) -> None:
        self._services = services
        self._attempt = attempt
        self._connections: list[McpConnection] = []
        self._public = PublicTools.parse(services.settings.public_tools)

    async def load(self, plan: Plan, agent: AgentConfig) -> tuple[Toolbox, list[str]]:
        """The agent's toolbox, and notes on it for its instructions."""
        toolbox = Toolbox(agent.review | plan.agent.review)
        for wanted in agent.tools:
            toolbox.add([await self._named(wanted, plan, agent)])
        toolbox.add(await DatastoreTools(self._services, self._attempt, plan).tools())
        notes: list[str] = []
        for connection, tools in await self._remote((*agent.servers, *plan.servers)):
            toolbox.add(tools)
            if connection.trouble:
                notes.append(
                    f"The MCP server {connection.server.name} is not reachable now: {connection.trouble}"
                )
        return toolbox, notes

    async def aclose(self) -> None:
        """End the sessions."""
        await asyncio.gather(*(connection.aclose() for connection in self._connections))

    async def _remote(self, servers: Sequence[McpServer]) -> list[tuple[McpConnection, list[Tool]]]:
        named: dict[str, McpServer] = {}
        for server in servers:
            named.setdefault(server.name, server)
        wanted = [self._connection(server) for server in named.values()]
        found = await asyncio.gather(*(connection.tools() for connection in wanted))
        return list(zip(wanted, found, strict=True))

    def _connection(self, server: McpServer) -> McpConnection:
        """The run's session with this server. Agents may give one name to different servers: each has its own."""
        namesakes = [known for known in self._connections if known.server.name == server.name]
        for known in namesakes:
            if known.server == server:
                return known
        made = McpConnection(self._attempt, server, self._services.guard, len(namesakes))
        self._connections.append(made)
        return made

    async def _named(self, wanted: str | dict[str, Any], plan: Plan, agent: AgentConfig) -> Tool:
        """A tool that a manifest lists by name, or as ``{name, description?, effect?, review?, timeout?}``.

        `effect` and `review` only tighten what the tool declares.
        """
        given = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
        name = str(given.get("agent") or given.get("name") or "")
        tool = await self._find(name, plan, agent)
        changes: dict[str, Any] = {k: v for k, v in given.items() if k in _OVERRIDES and v is not None}
        changes["effect"] = tool_access.tightest(tool.effect, given.get("effect"))
        named = {name, tool_access.called(given)}  # an agent is reviewed by either of its names
        reviewed = not named.isdisjoint(agent.review | plan.agent.review)
        changes["review"] = tool.review or bool(given.get("review")) or reviewed
        if given.get("timeout"):
            changes["seconds"] = float(given["timeout"])
        if given.get("agent") and given.get("name"):
            changes["name"] = str(given["name"])
        return replace(tool, **changes)

    async def _find(self, name: str, plan: Plan, agent: AgentConfig) -> Tool:
        if name == ask.NAME:
            return ask_user(self._attempt, plan.asking)
        if name.startswith("@"):
            manifest = await in_engine_thread(self._manifest, name)
            called = name.rpartition("/")[2]
            return agent_tool(self._attempt, self._services.children, name, called, manifest)
        definition = registered_tools().get(name)
        granted = name in agent.granted or self._public.allows(name, self._attempt.task.org_id)
        if not granted and not (definition is not None and definition.public):
            raise BadOptions.of(tool_access.not_open(name))
        if definition is None:
            raise BadOptions(
                f"No worker here has registered the tool {name!r}: add its module to RUNYARD_AGENTS.",
                code="unknown_tool",
                field="tools",
            )
        return python_tool(self._attempt, definition)

    def _manifest(self, name: str) -> dict[str, Any]:
        try:
            with self._services.store.read() as conn:
                return dict(agents.resolve(OrgScope(conn, self._attempt.task.org_id), name).manifest)
        except NotFound as missing:
            raise BadOptions.of(missing) from missing
