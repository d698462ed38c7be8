"""Which tools a run's agent has, when its request names them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runyard_workers.agent.servers import McpServer

Tools = tuple[str | dict[str, Any], ...]


def select(
    named: Sequence[str] | None, own: Tools, servers: Sequence[McpServer]
) -> tuple[Tools, tuple[McpServer, ...]]:
    """The tools and servers left to the agent, in the order of `named`; all its own without it.

    A name is that of a tool of its own (which keeps its effect, review and timeout), ``server_tool`` for a tool of
    one of its MCP servers, or else a tool to add.
    """
    if named is None:
        return own, tuple(servers)
    known = {_name(tool): tool for tool in own}
    kept = [_limited(server, named) for server in servers]
    remote = {f"{server.name}_{tool}" for server in kept for tool in server.tools or ()}
    wanted = dict.fromkeys(name for name in named if name not in remote)
    return tuple(known.get(name, name) for name in wanted), tuple(one for one in kept if one.tools)


def _limited(server: McpServer, named: Sequence[str]) -> McpServer:
    prefix = f"{server.name}_"
    asked = frozenset(name.removeprefix(prefix) for name in named if name.startswith(prefix))
    return replace(server, tools=asked if server.tools is None else asked & server.tools)


def _name(tool: str | dict[str, Any]) -> str:
    return tool if isinstance(tool, str) else str(tool.get("name") or tool.get("agent") or "")
