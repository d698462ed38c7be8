"""Agents changed in place, each change live at once: a change publishes the next version.

Their names are normalised, and within an organisation no two agents have the same normalised name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from runyard_common.agents.queries import agents
from runyard_common.agents.rules import manifests
from runyard_common.agents.service import agents as publishing
from runyard_common.agents.service import drafts
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.agents.service.manifests import PLAIN, PublishRules
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.sessions.queries import sessions
from runyard_common.usage import queries as usage
from runyard_common.values import ids
from runyard_common.values.errors import Conflict, InvalidRequest, NotFound

#: How the scopes of their conversations begin.
SESSIONS: Final = "nugen:"
#: Where a manifest's `config` repeats its own fields.
_REPEATED: Final = {"instructions": "system_prompt", "model": "model"}
_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9_]*")


def create(
    tx: Tx, org_id: str, name: str, values: Mapping[str, Any], by: str, rules: PublishRules = PLAIN
) -> AgentRecord:
    """A new agent of this name, with these parts of a manifest, published as 1.0.0.

    Errors: `Conflict` name_taken, `InvalidRequest` invalid_name or invalid_manifest.
    """
    slug = normalised(name)
    _refuse_duplicate(tx, org_id, slug)
    own = {"name": ids.qualify(slug), "version": "1.0.0", "display_name": name.strip()}
    document = {**values, **own}
    record = publishing.publish(tx, org_id, manifests.parse(document), by, rules=rules)
    identity.audit(tx, org_id, by, "agent.create", record.agent.id, {"name": record.agent.name})
    return record


def change(
    tx: Tx, org_id: str, agent_id: str, values: Mapping[str, Any], by: str, rules: PublishRules = PLAIN
) -> AgentRecord:
    """The agent with these parts of its manifest changed; `name` renames it. Nothing changed, nothing published.

    Errors: `NotFound` agent_not_found; `Conflict` agent_is_code, name_taken; `InvalidRequest`.
    """
    record = _own(tx, org_id, agent_id)
    if record.kind != "declared":
        raise Conflict(f"{record.ref.name} is code: change and publish it there.", code="agent_is_code")
    before = record.manifest
    after = before | {key: value for key, value in values.items() if key != "name"}
    if values.get("name") is not None:
        after |= {"name": _rename(tx, org_id, record, values["name"]), "display_name": values["name"].strip()}
    after["config"] = _repeat(before.get("config") or {}, values)
    changed = manifests.parse(after).to_json()
    if changed == manifests.parse(before | {"config": before.get("config") or {}}).to_json():
        return record
    changed["version"] = _next_version(tx, agent_id)
    published = publishing.publish(tx, org_id, manifests.parse(changed), by, rules=rules)
    data = {"version": changed["version"], "fields": sorted(values)}
    identity.audit(tx, org_id, by, "agent.change", agent_id, data)
    return published


def remove(tx: Tx, org_id: str, agent_id: str, by: str) -> str:
    """Delete an agent: its versions, conversations and usage go too. Its name.

    Errors: `NotFound` agent_not_found, `Conflict` agent_in_use (tasks of it are under way).
    """
    record = _own(tx, org_id, agent_id)
    drafts.remove(tx, org_id, record.version.id)
    sessions.remove_of_agent(tx, org_id, agent_id, SESSIONS)
    usage.forget_agent(tx, org_id, agent_id)
    identity.audit(tx, org_id, by, "agent.delete", agent_id, {"name": record.ref.name})
    return record.ref.name


def normalised(name: str) -> str:
    """The normalised form of a name people gave; `InvalidRequest` invalid_name when nothing of it is left."""
    slug = ids.normalise(drafts.full_name(name))
    if not _PLAIN.fullmatch(slug):
        raise InvalidRequest(
            "A name needs letters or digits, and begins with one.", code="invalid_name", field="agent_name"
        )
    return slug


def _own(tx: Tx, org_id: str, agent_id: str) -> AgentRecord:
    """An agent of the organisation itself: what the operator publishes for all is not."""
    row = agents.get(tx.scope(org_id), agent_id) if ids.is_uuid(agent_id) else None
    if row is None or row.org_id != org_id or row.shared or not row.is_active:
        raise NotFound("There is no such agent.", code="agent_not_found", field="agent_id")
    return publishing.resolve(tx.scope(org_id), row.id)


def _refuse_duplicate(tx: Tx, org_id: str, slug: str, but: str | None = None) -> None:
    found = agents.by_slug(tx.scope(org_id), slug)
    if found is not None and found.org_id == org_id and found.id != but:
        raise Conflict(f"There is an agent named {slug} already.", code="name_taken", field="agent_name")


def _rename(tx: Tx, org_id: str, record: AgentRecord, name: str) -> str:
    slug = normalised(name)
    if slug == record.agent.slug:
        return record.agent.name
    _refuse_duplicate(tx, org_id, slug, record.agent.id)
    full = ids.qualify(slug)
    agents.update_agent(tx, record.agent.id, name=full, slug=slug)
    return full


def _repeat(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    repeated = {
        theirs: values[ours] for ours, theirs in _REPEATED.items() if ours in values and theirs in config
    }
    return {**config, **repeated}


def _next_version(tx: Tx, agent_id: str) -> str:
    """The minor version after the highest there is."""
    import nodesemver

    known = [v.version for v in agents.versions(tx.conn, agent_id)]
    valid = [version for version in known if nodesemver.valid(version, False) is not None]
    highest = nodesemver.max_satisfying(valid, "*", False, True) if valid else "0.0.0"
    return str(nodesemver.inc(highest or "0.0.0", "minor", False))
