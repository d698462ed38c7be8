"""Publish agents and find the version that a request names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from runyard_common.agents.queries import agents
from runyard_common.agents.queries.agents import AgentRow, VersionOutline, VersionRow
from runyard_common.agents.rules.manifests import LONGEST_VERSION, Manifest, digest
from runyard_common.agents.service import manifests, tools
from runyard_common.agents.service.manifests import PLAIN, PublishRules
from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.rules.caps import STORAGE
from runyard_common.identity.service import caps
from runyard_common.runs.queries import limit_changes, limits
from runyard_common.runs.rules.admission import Kind, Rule
from runyard_common.runs.rules.specs import AgentRef
from runyard_common.values import ids
from runyard_common.values.errors import Conflict, Forbidden, InvalidRequest, NotFound, RunyardError
from runyard_common.values.json_text import JsonObject


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent as a request meets it: the agent and the version chosen."""

    agent: AgentRow
    version: VersionRow
    #: By which name and version it was asked for, where it was.
    asked: tuple[str, str | None] | None = field(default=None, compare=False)

    @property
    def ref(self) -> AgentRef:
        """What a run is bound to."""
        manifest = self.manifest
        return AgentRef(
            self.agent.org_id,
            self.agent.id,
            self.version.id,
            self.agent.name,
            self.version.version,
            manifest.get("timeout"),
            manifest.get("retries"),
            manifest.get("kind") == "python",
        )

    @property
    def manifest(self) -> JsonObject:
        """The chosen version's manifest."""
        return dict(self.version.manifest)

    @property
    def by_operator(self) -> bool:
        """Whether the operator published this version, for every organisation."""
        return self.version.shared

    @property
    def is_active(self) -> bool:
        """Whether the agent may be run."""
        return self.agent.is_active

    @property
    def functional(self) -> bool:
        """Whether it takes arguments and gives one structured result (chat agents do not)."""
        return self.agent.functional

    @property
    def kind(self) -> str:
        """declared or python."""
        return self.agent.kind


def resolve(scope: OrgScope, name: str, version: str | None = None) -> AgentRecord:
    """The agent an organisation calls `name` (agent id, version id, ``@scope/name`` or normalised name).

    `version` is an exact version, a tag or a semver range; without it the agent's current version.
    Errors: `NotFound` agent_not_found or version_not_found; `InvalidRequest` invalid_version when it is too long.
    """
    agent, chosen = _find(scope, name)
    if agent is None:
        raise NotFound(f"There is no agent {name!r}.", code="agent_not_found", field="agent")
    if version is not None:
        chosen = _match(scope.conn, agent.id, version)
        if chosen is None:
            raise NotFound(
                f"{agent.name} has no version {version!r}.", code="version_not_found", field="version"
            )
    if chosen is None and agent.version_id is not None:
        chosen = agents.version(scope.conn, agent.version_id)
    if chosen is None:
        raise NotFound(f"{agent.name} has no version to run.", code="version_not_found", field="version")
    return AgentRecord(agent, chosen, (name, version))


def is_still(scope: OrgScope, found: AgentRecord) -> bool:
    """Whether an organisation gets the same where it asks for this agent again."""
    if found.asked is None:
        return False
    try:
        return resolve(scope, *found.asked) == found
    except RunyardError:
        return False


def _find(scope: OrgScope, name: str) -> tuple[AgentRow | None, VersionRow | None]:
    if ids.is_uuid(name):
        agent = agents.get(scope, name)
        if agent is not None:
            return agent, None
        version = agents.version(scope.conn, name)
        return (agents.get(scope, version.agent_id), version) if version else (None, None)
    if name.startswith("@"):
        return agents.named(scope, name), None
    return agents.by_name(scope, ids.qualify(name)) or agents.by_slug(scope, ids.normalise(name)), None


def _match(conn: Connection, agent_id: str, wanted: str) -> VersionRow | None:
    """Exact version (yanked ones included), then tag, then the highest version in a range; drafts never."""
    found = _matching(conn, agent_id, wanted)
    return agents.version(conn, found.id) if found else None


def _matching(conn: Connection, agent_id: str, wanted: str) -> VersionOutline | None:
    """As `_match`, without the manifest."""
    if len(wanted) > LONGEST_VERSION:
        raise InvalidRequest(
            f"A version, tag or range has {LONGEST_VERSION} characters at most.",
            code="invalid_version",
            field="version",
        )
    import nodesemver

    wanted = " ".join(wanted.split())  # the parser takes quadratic time over white space
    versions = [v for v in agents.versions(conn, agent_id) if v.status != "draft"]
    by_version = {v.version: v for v in versions}
    exact = nodesemver.valid(wanted, False)
    if exact is not None:
        return by_version.get(exact.version)
    tagged = agents.tags(conn, agent_id).get(wanted)
    live = {v.version: v for v in versions if not v.yanked}
    if tagged is not None:
        return next((v for v in live.values() if v.id == tagged), None)
    try:
        best = nodesemver.max_satisfying(list(live), wanted, False)
    except ValueError:
        return None
    return live.get(best) if best else None


def publish(
    tx: Tx,
    org_id: str,
    manifest: Manifest,
    by: str | None = None,
    shared: bool = False,
    rules: PublishRules = PLAIN,
    choose: bool = True,
) -> AgentRecord:
    """Publish a manifest as an immutable version and make it the agent's current one; without `choose` only where the
    agent has none yet.

    Publishing the same content again changes nothing; ``********`` means the credential that is stored there. Code that
    was changed under the same version is published as ``1.0.0+<digest>``: see `_changed`.
    Errors: `Conflict` version_exists when this version number was published with other content; `Forbidden`
    agent_shared, tool_not_open; `InvalidRequest` tool_loosened, credential_missing.
    """
    agents.lock_names(tx, org_id)
    agent = agents.by_name(tx.scope(org_id), manifest.name)
    if agent is not None and agent.org_id == org_id and agent.shared and not shared:
        raise Forbidden(
            f"The operator publishes {manifest.name} for everybody. Choose another name.", code="agent_shared"
        )
    if agent is None or agent.org_id != org_id:
        agent = _create(tx, org_id, manifest, by, shared)
    known = agents.versions(tx.conn, agent.id)
    same = next((v for v in known if v.version == manifest.version), None)
    version = agents.version(tx.conn, same.id) if same else None
    document = manifests.kept(manifest.to_json(), _sources(tx.conn, agent, version), rules)
    if not shared:
        tools.check_manifest(tx.scope(org_id), document, rules.public_tools)
    if version is None:
        version = _add_version(tx, agent, document, rules, shared)
    elif not manifests.is_same(version, document, rules):
        version = _changed(tx, agent, manifest, version, document, rules, shared)
    elif shared and not version.shared:
        version = _replace(tx, version, shared=True)
    if choose or agent.version_id is None:
        # Which version of code is current is up to the workers that have it.
        chosen_at = tx.now if choose and manifest.kind == "declared" else None
        make_current(tx, agent, manifest.to_json(), version.id, shared, chosen_at)
        agent = replace(agent, version_id=version.id, kind=manifest.kind)
    elif agent.version_id == version.id:
        agents.update_agent(tx, agent.id, description=manifest.description)
    return AgentRecord(agent, version)


def make_current(
    tx: Tx,
    agent: AgentRow,
    manifest: JsonObject,
    version_id: str,
    shared: bool,
    chosen_at: float | None = None,
) -> None:
    """Let a version be the one that runs when none is asked for, with its description and its `max_concurrent`.

    `chosen_at`: a publish chose it then, and workers that start with an older one leave it.
    """
    agents.update_agent(
        tx,
        agent.id,
        version_id=version_id,
        chosen_at=chosen_at,
        description=manifest.get("description") or "",
        kind=manifest.get("kind", "declared"),
        functional=manifest.get("functional", True),
        shared=shared,
    )
    agents.set_tag(tx, agent.id, "latest", version_id)
    _limit(tx, replace(agent, shared=shared), manifest.get("max_concurrent"))


def _changed(
    tx: Tx,
    agent: AgentRow,
    manifest: Manifest,
    version: VersionRow,
    document: JsonObject,
    rules: PublishRules,
    shared: bool,
) -> VersionRow:
    """The version for content that differs from what `version` was published with.

    The manifest of code (`shared`, kind python) is made of it: its author changes a schema or a timeout and starts the
    worker. That is published under the same version with the content's digest behind it. Its description alone may
    change: it is the agent's, not the version's. A manifest under `runyard dev` (`rules.revises`) is treated alike.
    """
    if not (shared and (manifest.kind == "python" or rules.revises)):
        if manifests.only_seal_differs(version, document, rules):
            return _replace(tx, version, **rows.values(manifests.sealed(document, rules)))
        raise Conflict(
            f"{manifest.name} {manifest.version} is published already with other content. Raise its version.",
            code="version_exists",
            field="version",
        )
    if manifests.contract(version.manifest) == manifests.contract(document):
        return version if version.shared else _replace(tx, version, shared=True)
    number = with_digest(manifest.version, digest(manifests.contract(document)))
    known = next((v for v in agents.versions(tx.conn, agent.id) if v.version == number), None)
    found = agents.version(tx.conn, known.id) if known else None
    return found or _add_version(tx, agent, document | {"version": number}, rules, shared)


def with_digest(version: str, of: str) -> str:
    """A version with the start of a content's digest as build metadata: ``1.0.0+1a2b3c4d``. `Conflict` version_exists
    where that is too long."""
    number = f"{version}{'.' if '+' in version else '+'}{of[:8]}"
    if len(number) > LONGEST_VERSION:
        raise Conflict(
            f"Version {version} is published already with other content. Raise it.",
            code="version_exists",
            field="version",
        )
    return number


def _sources(conn: Connection, agent: AgentRow, version: VersionRow | None) -> Iterator[VersionRow | None]:
    """The versions that a manifest may have been read from: this one, the draft, the current one."""
    yield version
    yield agents.draft(conn, agent.id)
    if agent.version_id is not None:
        yield agents.version(conn, agent.version_id)


def _replace(tx: Tx, version: VersionRow, **values: Any) -> VersionRow:
    agents.update_version(tx, version.id, **values)
    return replace(version, **values)


def _create(tx: Tx, org_id: str, manifest: Manifest, by: str | None, shared: bool) -> AgentRow:
    if not shared:
        caps.check(tx, org_id, "agents")
    agent = AgentRow(
        id=ids.uuid7(), org_id=org_id, name=manifest.name, slug=ids.normalise(manifest.name), kind=manifest.kind,
        created_at=tx.now, updated_at=tx.now, description=manifest.description, functional=manifest.functional,
        shared=shared, created_by=by,
    )  # fmt: skip
    agents.insert_agent(tx, agent)
    return agent


def _add_version(
    tx: Tx, agent: AgentRow, document: JsonObject, rules: PublishRules, shared: bool
) -> VersionRow:
    if not shared:
        check_storage(tx, agent.org_id, agent.id, document)
    known = agents.versions(tx.conn, agent.id)
    for old in known:
        if old.status == "published":
            agents.update_version(tx, old.id, status="archived")
    version = new_version(tx, agent.org_id, agent.id, len(known) + 1, document, rules, "published", shared)
    agents.insert_version(tx, version)
    return version


def new_version(
    tx: Tx,
    org_id: str,
    agent_id: str,
    number: int,
    document: JsonObject,
    rules: PublishRules,
    status: str,
    shared: bool = False,
) -> VersionRow:
    """A manifest as a version that is not stored yet."""
    sealed = manifests.sealed(document, rules)
    return VersionRow(
        id=ids.uuid7(), org_id=org_id, agent_id=agent_id, number=number, version=document["version"], status=status,
        yanked=False, shared=shared, size=agents.size_of(sealed.manifest), created_at=tx.now, updated_at=tx.now,
        **rows.values(sealed),
    )  # fmt: skip


def check_storage(tx: Tx, org_id: str, agent_id: str | None, document: JsonObject, replaced: int = 0) -> None:
    """Whether a manifest may be stored: as one more version of an agent (None: in place of one that has `replaced`
    bytes). Errors: `Conflict` too_many_versions, storage_full."""
    if agent_id is not None:
        caps.check(tx, org_id, "versions", of=agent_id)
    more = agents.size_of(document) - replaced
    if more > 0:
        caps.check(tx, org_id, STORAGE, more)


def _limit(tx: Tx, agent: AgentRow, max_concurrent: int | None) -> None:
    """An agent's own `max_concurrent` is a limit like any other, kept in step with its current version."""
    limit_id = f"agent-{agent.id}"
    org_id = "*" if agent.shared else agent.org_id
    if max_concurrent is None:
        for whose in ("*", agent.org_id):  # it may have been shared since
            limit_changes.discard(tx, whose, limit_id)
        return
    rule = Rule(limit_id, org_id, Kind.AGENT, agent.name, max_concurrent)
    known = limits.stored(tx.conn, limit_id)
    if known is None or (known.org_id, known.max_concurrent) != (org_id, max_concurrent):
        limit_changes.put(tx, rule)
