"""Appstrate's manifests as ours and back: what has no place in ours is kept word for word. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runyard_common.agents.rules import manifests
from runyard_common.agents.rules.manifests import Manifest
from runyard_common.values.errors import InvalidRequest

#: Where a version's config has the manifest as it was sent.
SENT: Final = "appstrate"
_SAME: Final = (
    "name", "version", "description", "model", "mode", "temperature", "tools", "review", "input", "output", "timeout",
    "keywords",
)  # fmt: skip
#: Seconds, for manifests that name no timeout (section 9).
TIMEOUT: Final = 300


def ours(given: Mapping[str, Any], content: str) -> Manifest:
    """The manifest to store. `InvalidRequest` that names the first fault."""
    name = given.get("name")
    if not isinstance(name, str) or not name.startswith("@"):
        raise InvalidRequest("manifest.name is @scope/name.", field="manifest.name")
    document = {key: given[key] for key in _SAME if given.get(key) is not None}
    config = given.get("config") if isinstance(given.get("config"), dict) else {}
    dependencies = given.get("dependencies")
    document |= {
        "display_name": given.get("displayName") or given.get("display_name"),
        "instructions": content,
        "timeout": given.get("timeout") or TIMEOUT,
        "config": dict(config or {}) | {SENT: dict(given)},
        "dependencies": dependencies if isinstance(dependencies, dict) else {},
    }
    try:
        return manifests.parse(document)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, field=f"manifest.{error.field}") from None


def theirs(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as its author sent it; of agents made elsewhere, ours in appstrate's words."""
    config = dict(manifest.get("config") or {})
    sent = config.pop(SENT, None)
    if isinstance(sent, dict):
        return sent | {"version": manifest.get("version")}
    found = {key: manifest[key] for key in _SAME if manifest.get(key) is not None}
    return found | {"type": "agent", "displayName": manifest.get("display_name"), "config": config}


def prompt(manifest: Mapping[str, Any]) -> str:
    config = manifest.get("config") or {}
    return str(manifest.get("instructions") or config.get("system_prompt") or "")
