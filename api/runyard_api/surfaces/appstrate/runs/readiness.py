"""Whether an agent can do anything: its prompt, what it depends on, its configuration (section 3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runyard_common.values.errors import InvalidRequest

#: What a manifest may depend on, in the order in which it is judged, and the code of the first that is not there.
MISSING: Final = {"skills": "missing_skill", "tools": "missing_tool", "providers": "provider_not_enabled"}
#: Tools of the contract's own platform (output, report, log): every agent has here what they are for.
BUILT_IN: Final = "@appstrate/"


def check(kind: str, manifest: Mapping[str, Any]) -> None:
    """`InvalidRequest` for the first thing in the way of a declared agent.

    Codes, in this order: empty_prompt, missing_skill, missing_tool, provider_not_enabled, config_incomplete.
    """
    if kind != "declared":
        return
    config = manifest.get("config") or {}
    if not str(manifest.get("instructions") or config.get("system_prompt") or "").strip():
        raise InvalidRequest("The agent has no prompt; write one first.", code="empty_prompt", field="prompt")
    for what, code in MISSING.items():
        for name in missing(manifest, what):
            raise InvalidRequest(
                f"The agent depends on {name}, which this server does not have; it knows no {what}. "
                f"Take it out of the manifest's dependencies.",
                code=code, field=f"dependencies.{what}",
            )  # fmt: skip
    _check_config(config)


def missing(manifest: Mapping[str, Any], what: str) -> list[str]:
    """The skills, tools or providers (`what`) that an agent names and this server has not."""
    named = (manifest.get("dependencies") or {}).get(what)
    names = [str(name) for name in named] if isinstance(named, dict | list) else []
    return [name for name in names if what != "tools" or not name.startswith(BUILT_IN)]


def _check_config(config: Mapping[str, Any]) -> None:
    schema = config.get("schema")
    wanted = schema if isinstance(schema, dict) else {}
    for name in wanted.get("required") or ():
        prop = (wanted.get("properties") or {}).get(name) or {}
        if name not in config and "default" not in prop:
            raise InvalidRequest(
                f"The agent's configuration lacks {name!r}.", code="config_incomplete", field=f"config.{name}"
            )
