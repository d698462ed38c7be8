"""Which registered tools an agent may use. Pure.

What the workers' modules register is the operator's: the agents that the operator publishes may use what their
manifests list, every other agent what was opened (by `@tool(public=True)` or RUNYARD_PUBLIC_TOOLS).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runyard_common.values.errors import Forbidden

ASK_USER: Final = "ask_user"
#: What a crash in the middle of a call means, from the loosest to the tightest.
EFFECTS: Final = ("read", "idempotent", "irreversible")
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class PublicTools:
    """The tools that RUNYARD_PUBLIC_TOOLS opens: names, or ``*``; followed by ``@organisation-id`` for one only."""

    entries: frozenset[str] = frozenset()

    @staticmethod
    def parse(text: str) -> PublicTools:
        """The setting, comma-separated."""
        return PublicTools(frozenset(entry.strip() for entry in text.split(",") if entry.strip()))

    def allows(self, name: str, org_id: str) -> bool:
        """Whether agents of this organisation may use the tool."""
        return self.names(name, org_id) or not self.entries.isdisjoint((_ANY, f"{_ANY}@{org_id}"))

    def names(self, name: str, org_id: str) -> bool:
        """Whether the tool is opened to this organisation by its name."""
        return not self.entries.isdisjoint((name, f"{name}@{org_id}"))


#: What the setting opens by default.
NOT_OPENED: Final = PublicTools()


def listed(tools: Iterable[Any]) -> list[str]:
    """The registered tools among a manifest's ``tools``: neither `ask_user` nor agents."""
    named = [tool if isinstance(tool, str) else _of_entry(tool) for tool in tools]
    return [name for name in named if is_registered(name)]


def children(tools: Iterable[Any]) -> list[str]:
    """The agents among a manifest's ``tools``, by their full names."""
    named = [tool if isinstance(tool, str) else _of_entry(tool) for tool in tools]
    return [name for name in named if name.startswith("@")]


def _of_entry(tool: Any) -> str:
    return str(tool.get("agent") or tool.get("name") or "") if isinstance(tool, Mapping) else str(tool)


def is_registered(name: str) -> bool:
    """Whether a name can be that of a registered tool."""
    return name != ASK_USER and not name.startswith("@")


def called(tool: Any) -> str:
    """What the agent and its requests call an entry of a manifest's ``tools``."""
    return str(tool.get("name") or tool.get("agent") or "") if isinstance(tool, Mapping) else str(tool)


def wanted(manifest: Mapping[str, Any], requested: Sequence[str] | None, by_operator: bool) -> list[str]:
    """The registered tools that a run needs to be open to its organisation.

    `requested` names the tools of the run in place of the agent's own, if given. `by_operator`: the operator
    published the manifest, and with it opened what it lists to those who run it.
    """
    own = manifest.get("tools") or []
    if requested is None:
        return [] if by_operator else listed(own)
    entries = {called(tool): tool for tool in own}
    chosen = [name for name in requested if name in entries]
    added = [name for name in requested if name not in entries and not _is_remote(name, manifest)]
    return [name for name in added if is_registered(name)] + (
        [] if by_operator else listed(entries[name] for name in chosen)
    )


def _is_remote(name: str, manifest: Mapping[str, Any]) -> bool:
    """Whether this is ``server_tool``, a tool of one of the manifest's MCP servers."""
    for server in manifest.get("mcp_servers") or ():
        prefix = f"{server.get('serverName') or server.get('name')}_"
        only = server.get("tools")
        if name.startswith(prefix) and (not isinstance(only, list) or name.removeprefix(prefix) in only):
            return True
    return False


def tightest(declared: str, wished: Any) -> str:
    """The effect of a tool that declares one and whose manifest names another: never a looser one."""
    return max(declared, wished, key=EFFECTS.index) if wished in EFFECTS else declared


def not_open(name: str, field: str = "tools") -> Forbidden:
    """The refusal of a tool that an agent may not use; whether there is one of this name, it does not say."""
    return Forbidden(
        f"No tool {name[:200]!r} is open to this agent. The operator opens a registered tool with "
        "@tool(public=True) or RUNYARD_PUBLIC_TOOLS, or publishes the agent.",
        code="tool_not_open",
        field=field,
    )
