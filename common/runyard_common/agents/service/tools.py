"""Registered tools as every process knows them: workers store what they have, publishing and accepting ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runyard_common.agents.queries import agents, registered_tools
from runyard_common.agents.rules import tool_access
from runyard_common.agents.rules.tool_access import PublicTools
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.values.errors import InvalidRequest


def register(tx: Tx, tools: Iterable[registered_tools.Tool]) -> None:
    """Note the tools that a worker's modules register."""
    registered_tools.save(tx, list(tools))


def check_open(scope: OrgScope, names: Sequence[str], public: PublicTools, field: str = "tools") -> None:
    """Refuse registered tools that agents of this organisation may not use: `Forbidden` tool_not_open.

    A tool that no worker has registered yet counts as closed, unless the setting opens it.
    """
    left = [name for name in names if not public.allows(name, scope.org_id)]
    known = registered_tools.named(scope.conn, left) if left else {}
    for name in left:
        if name not in known or not known[name].public:
            raise tool_access.not_open(name, field)


def check_manifest(scope: OrgScope, manifest: Mapping[str, Any], public: PublicTools) -> None:
    """Whether an organisation may publish this manifest, as far as its tools go.

    Errors: `Forbidden` tool_not_open; `InvalidRequest` tool_loosened, unknown_tool, unknown_agent.
    """
    entries = manifest.get("tools") or []
    for name in tool_access.children(entries):
        if name != manifest.get("name") and agents.by_name(scope, name) is None:
            raise unknown_agent(name)
    names = tool_access.listed(entries)
    if not names:
        return
    check_open(scope, names, public)
    known = registered_tools.named(scope.conn, names)
    # A tool that the setting names is one the operator vouches for; before a worker was there, none is known.
    missing = [name for name in names if name not in known and not public.names(name, scope.org_id)]
    if missing and registered_tools.are_there(scope.conn):
        raise unknown_tool(missing[0])
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping) and not entry.get("agent") and entry.get("name") in known:
            _check_loosened(entry, known[str(entry["name"])], f"tools[{index}]")


def check_known(
    scope: OrgScope, manifests: Sequence[Mapping[str, Any]], known: set[str]
) -> list[list[InvalidRequest]]:
    """What each of the operator's manifests names that is not there. `known` are the tools and agents that come with
    them."""
    together = known | {str(manifest["name"]) for manifest in manifests}
    found: list[list[InvalidRequest]] = []
    for manifest in manifests:
        entries = manifest.get("tools") or []
        tools = [name for name in tool_access.listed(entries) if name not in together]
        stored = registered_tools.named(scope.conn, tools) if tools else {}
        children = [name for name in tool_access.children(entries) if name not in together]
        found.append(
            [unknown_tool(name) for name in tools if name not in stored]
            + [unknown_agent(name) for name in children if agents.by_name(scope, name) is None]
        )
    return found


def unknown_tool(name: str) -> InvalidRequest:
    """The refusal of a manifest that names a tool which no worker has registered."""
    return InvalidRequest(
        f"No worker has registered the tool {name[:200]!r}: correct its name, or start a worker whose RUNYARD_AGENTS "
        "names its module first.",
        code="unknown_tool",
        field="tools",
    )


def unknown_agent(name: str) -> InvalidRequest:
    """The refusal of a manifest that names an agent which is not there."""
    return InvalidRequest(
        f"There is no agent {name[:200]!r} to call: correct its name, or publish it first.",
        code="unknown_agent",
        field="tools",
    )


def _check_loosened(entry: Mapping[str, Any], declared: registered_tools.Tool, field: str) -> None:
    effect = entry.get("effect")
    if effect is not None and tool_access.tightest(declared.effect, effect) != effect:
        raise InvalidRequest(
            f"{declared.name} is {declared.effect}: a manifest may make a tool's effect tighter "
            f"({', '.join(tool_access.EFFECTS)}), never looser.",
            code="tool_loosened",
            field=f"{field}.effect",
        )
    if declared.review and entry.get("review") is False:
        raise InvalidRequest(
            f"Each call of {declared.name} needs a review: a manifest may add that, never take it away.",
            code="tool_loosened",
            field=f"{field}.review",
        )
