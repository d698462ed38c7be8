"""Drafts: agents made and changed piece by piece until they are published.

An agent is made with a draft as its first version, which runs until something is published. A draft is changed
in place; what is published is immutable, so changing a published agent begins its next draft.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from runyard_common.agents.queries import agent_versions, agents
from runyard_common.agents.queries.agent_versions import ListedVersion
from runyard_common.agents.queries.agents import AgentRow, VersionOutline, VersionRow
from runyard_common.agents.rules import manifests
from runyard_common.agents.service import agents as publishing
from runyard_common.agents.service import manifests as stored
from runyard_common.agents.service import tools
from runyard_common.agents.service.manifests import PLAIN, PublishRules
from runyard_common.database import rows
from runyard_common.database.transaction import Tx
from runyard_common.identity.service import caps
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import ACTIVE
from runyard_common.values import ids
from runyard_common.values.errors import Conflict, Forbidden, InvalidRequest, NotFound
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonObject

_LONGEST_NAME: Final = 128
#: Parts of a `config` that are also parts of a manifest.
_SHARED: Final = {"system_prompt": "instructions", "model": "model"}


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """What to set; None leaves it as it is. `config` replaces the whole, `system_prompt` only its own key."""

    name: str | None = None
    system_prompt: str | None = None
    config: JsonObject | None = None
    is_active: bool | None = None


def create(tx: Tx, org_id: str, wanted: DraftRequest, by: str, rules: PublishRules = PLAIN) -> ListedVersion:
    """A new agent with a draft; the draft.

    Errors: `Conflict` name_taken or too_many_agents, `InvalidRequest` invalid_name, invalid_manifest or
    credential_missing.
    """
    agents.lock_names(tx, org_id)
    name = wanted.name or _untitled(tx, org_id)
    full = full_name(name)
    if _name_in_use(tx, org_id, full):
        raise Conflict(f"There is an agent named {name!r} already.", code="name_taken", field="name")
    caps.check(tx, org_id, "agents")
    agent_id = uuid7()
    config = dict(wanted.config or {})
    if wanted.system_prompt is not None:
        config.setdefault("system_prompt", wanted.system_prompt)
    manifest = stored.kept(_manifest(full, name, config), [], rules)
    draft = _insert_draft(tx, org_id, agent_id, 1, manifest, rules)
    agents.insert_agent(tx, AgentRow(
        id=agent_id, org_id=org_id, name=full, slug=ids.normalise(full), kind="declared", version_id=draft.id,
        created_by=by, is_active=wanted.is_active is not False, created_at=tx.now, updated_at=tx.now,
    ))  # fmt: skip
    return _listed(tx, org_id, draft.id)


def change(
    tx: Tx, org_id: str, version_id: str, wanted: DraftRequest, rules: PublishRules = PLAIN
) -> ListedVersion:
    """Change an agent by one of its versions; the draft (or, where only the agent itself changed, that version).

    ``********`` in a config means the credential that is stored there. Errors: `NotFound` agent_not_found;
    `Forbidden` agent_shared; `Conflict` agent_is_code, name_taken; `InvalidRequest` credential_missing.
    """
    row = _own(tx, org_id, version_id)
    if wanted.is_active is not None:
        agents.update_agent(tx, row.agent_id, is_active=wanted.is_active)
    if wanted.name is None and wanted.config is None and wanted.system_prompt is None:
        return _listed(tx, org_id, version_id)
    _refuse_shared(row)
    if row.kind != "declared":
        raise Conflict(f"{row.name} is code: change and publish it there.", code="agent_is_code")
    draft = _draft_of(tx, org_id, row, rules)
    manifest = stored.opened(draft, rules.sealer)
    config = dict(manifest.get("config") or {}) if wanted.config is None else dict(wanted.config)
    if wanted.system_prompt is not None:
        config["system_prompt"] = wanted.system_prompt
    full, shown = row.name, manifest.get("display_name") or row.name
    if wanted.name is not None:
        full, shown = _rename(tx, org_id, row, wanted.name), wanted.name
    kept = manifest if wanted.config is None else _without(manifest, _SHARED.values())
    merged = kept | {"name": full, "display_name": shown, "config": config} | _named(config)
    _check(merged)
    publishing.check_storage(tx, org_id, None, merged, draft.size)
    sealed = stored.sealed(stored.kept(merged, [draft], rules), rules)
    agents.update_version(tx, draft.id, **rows.values(sealed))
    return _listed(tx, org_id, draft.id)


def publish(tx: Tx, org_id: str, version_id: str, rules: PublishRules = PLAIN) -> ListedVersion:
    """Publish an agent's draft; the version that was live is archived. The published version.

    Errors: `NotFound` agent_not_found, `Forbidden` agent_shared or tool_not_open, `Conflict` no_draft.
    """
    row = _own(tx, org_id, version_id)
    _refuse_shared(row)
    draft = agents.draft(tx.conn, row.agent_id)
    if draft is None:
        raise Conflict("There is no draft to publish: nothing was changed since.", code="no_draft")
    tools.check_manifest(tx.scope(org_id), draft.manifest, rules.public_tools)
    for old in agents.versions(tx.conn, row.agent_id):
        if old.status == "published":
            agents.update_version(tx, old.id, status="archived")
    agents.update_version(tx, draft.id, status="published")
    agents.update_agent(tx, row.agent_id, version_id=draft.id, chosen_at=tx.now)
    agents.set_tag(tx, row.agent_id, "latest", draft.id)
    return _listed(tx, org_id, draft.id)


def remove(tx: Tx, org_id: str, version_id: str) -> str:
    """Delete an agent with its versions; its tasks stay. The agent's id.

    Errors: `NotFound` agent_not_found, `Forbidden` agent_shared, `Conflict` agent_in_use (tasks of it are
    under way).
    """
    row = _own(tx, org_id, version_id)
    under_way = Filter(agent_id=row.agent_id, statuses=tuple(ACTIVE))
    if tasks.page(tx.scope(org_id), under_way, 1):
        raise Conflict("Tasks of this agent are under way; stop them first.", code="agent_in_use")
    agents.delete_agent(tx, row.agent_id)
    return row.agent_id


def full_name(name: str) -> str:
    """The full name for a name people gave, fit for paths: lower case, with hyphens between its words.

    Error: `InvalidRequest` invalid_name for a name nothing is left of.
    """
    scope, _, base = ids.qualify(name.strip()).partition("/")
    if not (ids.is_scope(scope) and base and "/" not in base):
        scope, base = "@default", name.rpartition("/")[2]
    kept = ids.slug(base)[:_LONGEST_NAME].strip("-._")
    if not kept:
        raise InvalidRequest("A name needs letters or digits.", code="invalid_name", field="name")
    return f"{scope}/{kept}"


def _rename(tx: Tx, org_id: str, row: ListedVersion, name: str) -> str:
    full = full_name(name)
    if full != row.name:
        agents.lock_names(tx, org_id)
        if _name_in_use(tx, org_id, full):
            raise Conflict(f"There is an agent named {name!r} already.", code="name_taken", field="name")
        agents.update_agent(tx, row.agent_id, name=full, slug=ids.normalise(full))
    return full


def _name_in_use(tx: Tx, org_id: str, full: str) -> bool:
    found = agents.by_name(tx.scope(org_id), full)
    return found is not None and found.org_id == org_id


def _untitled(tx: Tx, org_id: str) -> str:
    number = 1
    while _name_in_use(tx, org_id, full_name(f"Untitled Agent {number}")):
        number += 1
    return f"Untitled Agent {number}"


def _own(tx: Tx, org_id: str, version_id: str) -> ListedVersion:
    row = _listed(tx, org_id, version_id)
    if row.org_id != org_id:
        raise Forbidden("The operator publishes this agent for everybody.", code="agent_shared")
    return row


def _refuse_shared(row: ListedVersion) -> None:
    """What every organisation runs, and what may use the operator's tools, only the operator's workers publish."""
    if row.shared:
        raise Forbidden("The operator's workers publish this agent: change it there.", code="agent_shared")


def _listed(tx: Tx, org_id: str, version_id: str) -> ListedVersion:
    row = agent_versions.get(tx.scope(org_id), version_id)
    if row is None:
        raise NotFound("There is no such agent.", code="agent_not_found", field="agent")
    return row


def _draft_of(tx: Tx, org_id: str, row: ListedVersion, rules: PublishRules) -> VersionRow:
    """The agent's draft; begun from the given version where there is none."""
    draft = agents.draft(tx.conn, row.agent_id)
    if draft is not None:
        return draft
    versions = agents.versions(tx.conn, row.agent_id)
    manifest = stored.opened(row, rules.sealer) | {"version": _next_version(versions)}
    return _insert_draft(tx, org_id, row.agent_id, max(v.number for v in versions) + 1, manifest, rules)


def _next_version(versions: list[VersionOutline]) -> str:
    majors = [int(v.version.split(".")[0]) for v in versions if v.version.split(".")[0].isdigit()]
    return f"{max(majors, default=0) + 1}.0.0"


def _manifest(full: str, shown: str, config: JsonObject) -> JsonObject:
    first = {"name": full, "version": "1.0.0", "kind": "declared"}
    return first | {"display_name": shown, "config": config} | _named(config)


def _without(manifest: JsonObject, names: Iterable[str]) -> JsonObject:
    return {name: value for name, value in manifest.items() if name not in names}


def _named(config: JsonObject) -> dict[str, str]:
    return {ours: config[theirs] for theirs, ours in _SHARED.items() if isinstance(config.get(theirs), str)}


def _check(manifest: JsonObject) -> None:
    manifests.parse(manifest)


def _insert_draft(
    tx: Tx, org_id: str, agent_id: str, number: int, manifest: JsonObject, rules: PublishRules
) -> VersionRow:
    _check(manifest)
    publishing.check_storage(tx, org_id, agent_id, manifest)
    draft = publishing.new_version(tx, org_id, agent_id, number, manifest, rules, "draft")
    agents.insert_version(tx, draft)
    return draft
