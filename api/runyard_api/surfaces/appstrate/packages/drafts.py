"""Packages: agents as a live draft with a lock number, and the versions published of it."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_common.agents.queries import agents
from runyard_common.agents.queries.agents import AgentRow, VersionOutline, VersionRow
from runyard_common.agents.rules import manifests
from runyard_common.agents.rules.manifests import Manifest
from runyard_common.agents.service import agents as publishing
from runyard_common.agents.service import drafts, tools
from runyard_common.agents.service import manifests as stored
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.agents.service.manifests import PLAIN, PublishRules
from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import ACTIVE
from runyard_common.values.errors import Conflict, Forbidden, InvalidRequest, NotFound
from runyard_common.values.json_text import JsonObject

_LOCK = "lock_version"


@dataclass(frozen=True, slots=True)
class Info:
    """A package's versions in short."""

    latest: str | None
    draft: str | None
    count: int
    tags: dict[str, str]


def live(scope: OrgScope, name: str) -> AgentRecord:
    """The agent as it is being written: its draft, where there is one, else its current version.

    Error: `NotFound` agent_not_found.
    """
    agent = agents.named(scope, name)
    if agent is None:
        raise NotFound(f"There is no agent {name!r}.", code="agent_not_found", field="name")
    draft = agents.draft(scope.conn, agent.id)
    return AgentRecord(agent, draft) if draft else publishing.resolve(scope, agent.id)


def chosen(scope: OrgScope, name: str, version: str | None) -> AgentRecord:
    """`live`, or the version a query names; the operator's agents have no choice of version.

    Errors: `NotFound` agent_not_found or version_not_found.
    """
    found = live(scope, name)
    if version is None or found.agent.shared:
        return found
    return publishing.resolve(scope, found.agent.id, version)


def lock_version(agent: AgentRow) -> int:
    """The number that a change must name: it counts the changes."""
    return int((agent.settings or {}).get(_LOCK, 1))


def create(tx: Tx, org_id: str, manifest: Manifest, actor: str, rules: PublishRules = PLAIN) -> AgentRecord:
    """Make an agent and publish its first version. Errors: `Conflict` name_taken, those of `agents.publish`."""
    _check_semver(manifest.version)
    agents.lock_names(tx, org_id)
    existing = agents.by_name(tx.scope(org_id), manifest.name)
    if existing is not None and existing.org_id == org_id:
        raise Conflict(
            f"There is an agent {manifest.name} already.", code="name_taken", field="manifest.name"
        )
    made = publishing.publish(tx, org_id, manifest, actor, rules=rules)
    identity.audit(tx, org_id, actor, "package.create", made.agent.id, {"name": manifest.name})
    return made


def change(
    tx: Tx,
    org_id: str,
    name: str,
    manifest: Manifest,
    lock: int,
    actor: str,
    rules: PublishRules = PLAIN,
) -> AgentRecord:
    """Replace the draft. Errors: `NotFound`, `Forbidden`, `Conflict` lock_conflict or agent_in_use,
    `InvalidRequest` for a manifest of another name; those of `agents.publish` about tools and credentials."""
    record = _own(tx, org_id, name)
    _check_semver(manifest.version)
    if manifest.name != record.agent.name:
        raise InvalidRequest("The name of a package does not change.", field="manifest.name")
    if lock != lock_version(record.agent):
        raise Conflict(
            "Another caller has changed this agent; read it again.", code="lock_conflict", field="lockVersion"
        )
    _check_idle(tx, org_id, record)
    document = stored.kept(manifest.to_json(), [record.version], rules)
    _set_draft(tx, record, document, rules)
    identity.audit(tx, org_id, actor, "package.update", record.agent.id)
    return live(tx.scope(org_id), name)


def delete(tx: Tx, org_id: str, name: str, actor: str) -> None:
    """Delete an agent with its versions. Errors: `NotFound`, `Forbidden`, `Conflict` agent_in_use."""
    record = _own(tx, org_id, name)
    drafts.remove(tx, org_id, record.version.id)
    identity.audit(tx, org_id, actor, "package.delete", record.agent.id, {"name": record.ref.name})


def versions(scope: OrgScope, name: str) -> list[VersionOutline]:
    """The published versions without their manifests, newest first; `NotFound` agent_not_found."""
    agent = live(scope, name).agent
    return [v for v in agents.versions(scope.conn, agent.id) if v.status != "draft"]


def version(scope: OrgScope, name: str, wanted: str) -> VersionRow:
    """A published version by number, tag or range; `NotFound`."""
    agent = live(scope, name).agent
    return publishing.resolve(scope, agent.id, wanted).version


def info(scope: OrgScope, name: str) -> Info:
    """The versions in short."""
    agent = live(scope, name).agent
    known = agents.versions(scope.conn, agent.id)
    numbers = {v.id: v.version for v in known}
    tags = {tag: numbers[id_] for tag, id_ in agents.tags(scope.conn, agent.id).items() if id_ in numbers}
    draft = next((v.version for v in known if v.status == "draft"), None)
    return Info(tags.get("latest"), draft, sum(v.status != "draft" for v in known), tags)


def create_version(
    tx: Tx, org_id: str, name: str, wanted: str | None, actor: str, rules: PublishRules = PLAIN
) -> VersionRow:
    """Publish the draft (or, under another number, what runs now); `latest` means it from then on.

    Errors: `NotFound`, `Forbidden`, `InvalidRequest`, `Conflict` agent_in_use, version_exists or no_draft.
    """
    record = _own(tx, org_id, name)
    if wanted is not None:
        _check_semver(wanted)
    _check_idle(tx, org_id, record)
    draft = agents.draft(tx.conn, record.agent.id)
    if draft is None and wanted in (None, record.version.version):
        raise Conflict("Nothing was changed since the last version.", code="no_draft")
    number = wanted or record.version.version
    document = stored.opened(record.version, rules.sealer) | {"version": number}
    if draft is not None:
        agents.delete_version(tx, draft.id)
    made = publishing.publish(tx, org_id, manifests.parse(document), actor, rules=rules)
    identity.audit(tx, org_id, actor, "package.publish", record.agent.id, {"version": number})
    return made.version


def yank(tx: Tx, org_id: str, name: str, wanted: str, actor: str) -> None:
    """Yank a version by its number; `latest` then means the highest that is left. `NotFound`, `Forbidden`."""
    import nodesemver

    record = _own(tx, org_id, name)
    agent_id = record.agent.id
    known = [v for v in agents.versions(tx.conn, agent_id) if v.status != "draft"]
    found = next((v for v in known if v.version == wanted), None)
    if found is None:
        raise NotFound(f"{name} has no version {wanted!r}.", code="version_not_found", field="version")
    agents.update_version(tx, found.id, yanked=True)
    left = {v.version: v for v in known if not v.yanked and v.id != found.id}
    best = nodesemver.max_satisfying(list(left), "*", False) if left else None
    for tag, id_ in agents.tags(tx.conn, agent_id).items():
        if id_ == found.id and tag == "latest" and best:
            agents.set_tag(tx, agent_id, tag, left[best].id)
    if record.agent.version_id == found.id and best:
        agents.update_agent(tx, agent_id, version_id=left[best].id)
    identity.audit(tx, org_id, actor, "package.yank", agent_id, {"version": wanted})


def restore(
    tx: Tx, org_id: str, name: str, wanted: str, actor: str, rules: PublishRules = PLAIN
) -> AgentRecord:
    """Make a version's content the draft. Errors: `NotFound`, `Forbidden`, `Conflict` agent_in_use."""
    record = _own(tx, org_id, name)
    found = version(tx.scope(org_id), name, wanted)
    _check_idle(tx, org_id, record)
    _set_draft(tx, record, stored.opened(found, rules.sealer), rules)
    identity.audit(tx, org_id, actor, "package.restore", record.agent.id, {"version": wanted})
    return live(tx.scope(org_id), name)


def _own(tx: Tx, org_id: str, name: str) -> AgentRecord:
    record = live(tx.scope(org_id), name)
    if record.agent.org_id != org_id or record.agent.shared:
        raise Forbidden(
            "The operator publishes this agent for all organisations.", code="operation_not_allowed"
        )
    return record


def _check_idle(tx: Tx, org_id: str, record: AgentRecord) -> None:
    under_way = Filter(agent_id=record.agent.id, statuses=tuple(ACTIVE))
    if tasks.page(tx.scope(org_id), under_way, 1):
        raise Conflict("Runs of this agent are under way; wait or cancel them.", code="agent_in_use")


def _check_semver(number: str) -> None:
    import nodesemver

    parsed = nodesemver.valid(number, False)
    if parsed is None or parsed.version != number:
        raise InvalidRequest(f"{number!r} is no semantic version.", field="manifest.version")


def _set_draft(tx: Tx, record: AgentRecord, document: JsonObject, rules: PublishRules) -> None:
    """Store the draft under a number that is free, and count the change. It can be run, so its tools are judged."""
    import nodesemver

    tools.check_manifest(tx.scope(record.agent.org_id), document, rules.public_tools)
    agent_id = record.agent.id
    known = agents.versions(tx.conn, agent_id)
    draft = next((v for v in known if v.status == "draft"), None)
    existing = {v.version for v in known if v.status != "draft"}
    number = document["version"]
    while number in existing:
        number = nodesemver.inc(number, "patch", False)
    document = document | {"version": number}
    if draft is not None:
        publishing.check_storage(tx, record.agent.org_id, None, document, draft.size)
        sealed = rows.values(stored.sealed(document, rules))
        agents.update_version(tx, draft.id, version=number, **sealed)
    else:
        org_id, next_number = record.agent.org_id, max(v.number for v in known) + 1
        publishing.check_storage(tx, org_id, agent_id, document)
        new = publishing.new_version(tx, org_id, agent_id, next_number, document, rules, "draft")
        agents.insert_version(tx, new)
    settings = (record.agent.settings or {}) | {_LOCK: lock_version(record.agent) + 1}
    agents.update_agent(tx, agent_id, settings=settings)
