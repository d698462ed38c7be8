"""The agents this process can run: Python agents from RUNYARD_AGENTS, declared ones from their stored manifests."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection

from runyard.authoring import AgentDefinition, every_version, newest
from runyard.tools import ToolDefinition, registered_tools
from runyard_common.agents.queries import agents as store_agents
from runyard_common.agents.queries.agents import VersionOutline, VersionRow
from runyard_common.agents.queries.registered_tools import Tool
from runyard_common.agents.rules.manifests import Manifest, parse
from runyard_common.agents.service import agents as service
from runyard_common.agents.service import fleet, tools
from runyard_common.agents.service import manifests as service_manifests
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.agents.service.manifests import PLAIN, PublishRules
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store
from runyard_common.runs.rules.specs import versioned
from runyard_common.schemas import checks
from runyard_common.start_checks import without_agents
from runyard_common.values.errors import ConfigurationError, Conflict, InvalidRequest, RunyardError
from runyard_workers.agent_code import versions
from runyard_workers.agent_code.sources import Broken, checked, enter_project, parts
from runyard_workers.agent_code.stored_code import stored_code

#: Agents that one transaction publishes, where one may be left out.
_AT_ONCE = 100
_DOCUMENTS = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the sources gave, the definitions by name and version. `broken` names each that is there and cannot be used,
    and why, in one line; `empty` each that holds no agent and no tool."""

    definitions: dict[str, AgentDefinition]
    manifests: list[Manifest]
    broken: list[str]
    empty: list[str]
    errors: list[Broken] = field(
        default_factory=list
    )  # of those in `broken` that could not be read or imported


def load(sources: Iterable[str]) -> tuple[dict[str, AgentDefinition], list[Manifest]]:
    """As `load_each`, for callers that want all or nothing: `ConfigurationError` names what is broken."""
    loaded = load_each(sources)
    if loaded.broken:
        raise ConfigurationError("RUNYARD_AGENTS: " + "; ".join(loaded.broken))
    return loaded.definitions, loaded.manifests


def load_each(sources: Iterable[str]) -> Loaded:
    """Import the modules and read the manifest folders that `sources` name.

    A folder may hold manifests (``*.yaml``, ``*.yml``, ``*.json``) and Python files with agents. A source that
    breaks leaves the others working. Raises `ConfigurationError` for one that does not exist.
    """
    found: list[tuple[Manifest, str]] = []
    broken: list[str] = []
    empty: list[str] = []
    errors: list[Broken] = []
    enter_project()
    for source in sources:
        whole, before, modules = parts(source), _gathered(found, broken), len(sys.modules)
        for read in whole:
            try:
                found += read()
            except Broken as error:
                broken.append(error.message)
                errors.append(error)
        # A module that another source has imported already declares nothing now.
        is_new = not whole or len(sys.modules) > modules
        if is_new and _gathered(found, broken) == before:
            empty.append(without_agents(source))
    definitions = _usable(broken)
    return Loaded(definitions, _unique(found, definitions, broken), broken, empty, errors)


def _gathered(found: list[tuple[Manifest, str]], broken: list[str]) -> tuple[Any, ...]:
    """What the sources read so far have given."""
    return len(found), len(broken), every_version(), registered_tools()


def _usable(broken: list[str]) -> dict[str, AgentDefinition]:
    found: dict[str, AgentDefinition] = {}
    for key, definition in every_version().items():
        try:
            versions.check(definition)
            checked(parse(definition.manifest))
            found[key] = definition
        except RunyardError as error:
            where = f" ({error.field})" if error.field else ""
            broken.append(f"{definition.place or definition.name}: {definition.name}{where}: {error.message}")
    return found


def _unique(
    found: list[tuple[Manifest, str]], definitions: dict[str, AgentDefinition], broken: list[str]
) -> list[Manifest]:
    """The manifests, without those whose agent is declared elsewhere too."""
    places: dict[tuple[str, str], str] = {}
    code = newest(definitions.values())
    unique: list[Manifest] = []
    for manifest, file in found:
        key = (manifest.name, manifest.version)
        python = code.get(manifest.name)
        other = str(python.place) if python is not None else places.get(key)
        if other is not None and other != file:
            broken.append(
                f"{file}: {manifest.name} {manifest.version} is declared in {other} too. Rename one."
            )
            continue
        places[key] = file
        unique.append(manifest)
    return unique


def publish(
    store: Store,
    org_id: str,
    definitions: Iterable[AgentDefinition],
    manifests: Iterable[Manifest],
    rules: PublishRules = PLAIN,
    refused: list[str] | None = None,
) -> int:
    """Publish these agents for every organisation, and the registered tools for those who may use them; how many
    agents there are. Publishing again changes nothing. Each is current from here on, of a Python agent its newest
    version, but for one of which live workers bring another version: then the newest of those is.

    `Conflict` version_exists for a manifest whose version was published with other content; with `refused`, the
    reason goes there, and the others are published.
    """
    return len(_publish(store, org_id, definitions, manifests, rules, refused, choose=True))


def bring(
    store: Store,
    org_id: str,
    definitions: Iterable[AgentDefinition],
    manifests: Iterable[Manifest],
    rules: PublishRules = PLAIN,
    refused: list[str] | None = None,
) -> list[str]:
    """As `publish`, for a worker that starts: the versions (name@version) that it brings, of each agent its newest. All
    are there from here on; which are current is decided as it enlists (see `runyard_common.agents.service.fleet`)."""
    return _publish(store, org_id, definitions, manifests, rules, refused, choose=False)


def bring_to(
    store: Store,
    org_id: str,
    definitions: Iterable[AgentDefinition],
    manifests: Iterable[Manifest],
    rules: PublishRules = PLAIN,
    refused: list[str] | None = None,
) -> list[str]:
    """As `bring`, for one organisation alone: no other sees these agents, and the versions are current at once. Changed
    content needs a version of its own, as that of any organisation's agents does; tools are registered by others'
    workers."""
    return _publish(store, org_id, definitions, manifests, rules, refused, choose=True, shared=False)


def _publish(
    store: Store,
    org_id: str,
    definitions: Iterable[AgentDefinition],
    manifests: Iterable[Manifest],
    rules: PublishRules,
    refused: list[str] | None,
    choose: bool,
    shared: bool = True,
) -> list[str]:
    code = versions.in_order(definitions)
    current = {(one.name, one.version) for one in newest(code).values()}
    others = {(one.name, one.version) for one in code} - current
    there = {} if choose else _there(store, org_id, code)
    documents = [parse(one.manifest) for one in code if (one.name, one.version) not in there]
    documents += manifests
    for manifest in documents:
        _check_schemas(manifest)
    # Where one may be left out, nothing hangs together: thousands would keep all other writers waiting for a minute.
    at_once = max(1, len(documents) if refused is None else _AT_ONCE)
    published = [version for key, version in there.items() if key in current]
    for start in range(0, max(1, len(documents)), at_once):
        made: list[str] = []
        left_out: list[str] = []
        with store.begin() as tx:
            for manifest in documents[start : start + at_once]:
                is_other = (manifest.name, manifest.version) in others
                chosen = choose and not is_other
                try:
                    record = service.publish(
                        tx, org_id, manifest, by="system", shared=shared, rules=rules, choose=chosen
                    )
                    if not is_other:
                        made.append(_versioned(record))
                except Conflict as conflict:
                    if refused is None:
                        raise
                    left_out.append(conflict.message)
            if shared and start + at_once >= len(documents):
                tools.register(tx, [_known(tool) for tool in registered_tools().values()])
            if choose:
                fleet.settle(tx, made)
        published += made
        if refused is not None:
            refused += left_out
    return published


def _there(store: Store, org_id: str, code: Iterable[AgentDefinition]) -> dict[tuple[str, str], str]:
    """By name and version, as which version each is published already: a worker that has thousands publishes those
    alone that were changed."""
    with store.read() as conn:
        found = [
            (one.definition, one.published_as(org_id)) for one in stored_code(OrgScope(conn, org_id), code)
        ]
    return {
        (definition.name, definition.version): versioned(definition.name, version)
        for definition, version in found
        if version is not None
    }


def _versioned(made: AgentRecord) -> str:
    return versioned(made.agent.name, made.version.version)


def split_known(
    store: Store, org_id: str, definitions: Iterable[AgentDefinition], manifests: Sequence[Manifest]
) -> tuple[list[Manifest], list[str]]:
    """The manifests whose tools and agents are there, or come with them, and what is wrong with the others."""
    known = {definition.name for definition in definitions} | set(registered_tools())
    left, problems = list(manifests), list[str]()
    while True:  # one that is left out may be what another calls
        with store.read() as conn:
            found = tools.check_known(
                OrgScope(conn, org_id), [manifest.to_json() for manifest in left], known
            )
        if not any(found):
            return left, problems
        for manifest, refusals in zip(left, found, strict=True):
            problems += [f"{manifest.name} {manifest.version}: {one.message}" for one in refusals]
        left = [manifest for manifest, refusals in zip(left, found, strict=True) if not refusals]


def versions_of(store: Store, org_id: str, definitions: Iterable[AgentDefinition]) -> tuple[str, ...]:
    """The published versions (name@version) that these Python agents can run: their own, and those of the same number
    that take and give the same and differ in options alone, or declare less of what these take and give. A run that
    waited for a person goes on in a worker whose code has another timeout since."""
    with store.read() as conn:
        return tuple(
            versioned(code.definition.name, version.version)
            for code in stored_code(OrgScope(conn, org_id), definitions)
            for version in code.versions
            if _fits(
                service_manifests.contract(code.document.to_json()),
                version.manifest,
                code.definition.annotated,
            )
        )


def published(conn: Connection, agent_id: str, definition: AgentDefinition) -> list[VersionOutline]:
    """The published versions that a Python agent can run as its own, the newest first."""
    mine = service_manifests.contract(parse(definition.manifest).to_json())
    number, found = definition.version.partition("+")[0], []
    for row in store_agents.versions(conn, agent_id):
        if row.status != "draft" and row.version.partition("+")[0] == number:
            version = store_agents.version(conn, row.id)
            if version is not None and _fits(mine, version.manifest, definition.annotated):
                found.append(row)
    return found


def carried_on(
    store: Store, org_id: str, definitions: Iterable[AgentDefinition], own: Iterable[str]
) -> tuple[str, ...]:
    """The published versions (name@version) besides its `own` whose runs a process resumes or drops once no worker
    has them."""
    by_name: dict[str, list[AgentDefinition]] = {}
    for definition in definitions:
        if definition.resumes or definition.drops:
            by_name.setdefault(definition.name, []).append(definition)
    found: set[str] = set()
    if by_name:
        with store.read() as conn:
            for name, declared in by_name.items():
                agent = store_agents.by_name(OrgScope(conn, org_id), name)
                rows = [] if agent is None else store_agents.versions(conn, agent.id)
                there = [row.version for row in rows if row.status != "draft"]
                found |= {versioned(name, one) for one in versions.carried_on(declared, there)}
    return tuple(sorted(found - set(own)))


def _fits(mine: dict[str, Any], published: dict[str, Any], annotated: frozenset[str]) -> bool:
    """A schema of annotations may be missing there: versions before them made none, and the code took what it takes."""
    return all(
        mine.get(name) == published.get(name) or (name in annotated and name not in published)
        for name in ("kind", "input", "output")
    )


def _known(tool: ToolDefinition) -> Tool:
    return Tool(tool.name, tool.public, tool.effect, tool.review)


def _check_schemas(manifest: Manifest) -> None:
    """Refuse an agent whose schemas cannot be used: each of its runs would be refused."""
    for name, holder in (("input", manifest.input), ("output", manifest.output)):
        if holder is None or holder.schema_ is None:
            continue
        try:
            checks.check_schema(holder.schema_, field=f"{name}.schema")
        except InvalidRequest as refused:
            raise ConfigurationError(
                f"RUNYARD_AGENTS: {manifest.name}: {refused.field}: {refused.message}"
            ) from None


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """One version's manifest with its credentials. `by_operator`: the operator published it, for everybody;
    `org_id` is then the operator's organisation."""

    document: dict[str, Any]
    by_operator: bool = False
    org_id: str = ""


class Manifests:
    """Manifests by version id, cached as they are stored: a published version never changes, a draft's lasts a
    moment."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._published = lru_cache(maxsize=1024)(self._read)

    def get(self, version_id: str) -> StoredManifest | None:
        """The manifest of one version; None when it was deleted. Reads the database: call it in a thread.

        `SealBroken` when its credentials were sealed with another key.
        """
        found = self._published(version_id)
        if found is None or found.status == "draft":
            self._published.cache_clear()
        if found is None:
            return None
        document = service_manifests.opened(found, self._sealer)
        return StoredManifest(document, found.shared, found.org_id)

    def owner(self, version_id: str) -> str | None:
        """The organisation that published a version; None when it was deleted. Reads the database, as `get`."""
        found = self._published(version_id)
        return None if found is None else found.org_id

    def _read(self, version_id: str) -> VersionRow | None:
        with self._store.read() as conn:
            return store_agents.version(conn, version_id)
