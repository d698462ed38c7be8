"""The agents this process can run: Python agents from RUNYARD_AGENTS, declared ones from their stored manifests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from runyard.authoring import AgentDefinition, registered
from runyard.tools import ToolDefinition, registered_tools
from runyard_common.domain import schemas
from runyard_common.domain.errors import ConfigurationError, InvalidRequest, RunyardError
from runyard_common.domain.manifests import Manifest, parse
from runyard_common.domain.sealing import Sealer
from runyard_common.services import agents as service
from runyard_common.services import manifests as service_manifests
from runyard_common.services import tools
from runyard_common.services.manifests import PLAIN, PublishRules
from runyard_common.store import agents as store
from runyard_common.store.registered_tools import Tool
from runyard_common.store.transaction import Store
from runyard_workers.sources import Broken, checked, enter_project, parts

_DOCUMENTS = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the sources gave. `broken` names each that is there and cannot be used, and why, in one line."""

    definitions: dict[str, AgentDefinition]
    manifests: list[Manifest]
    broken: list[str]


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
    enter_project()
    for source in sources:
        for read in parts(source):
            try:
                found += read()
            except Broken as error:
                broken.append(error.message)
    definitions = _usable(broken)
    return Loaded(definitions, _unique(found, definitions, broken), broken)


def _usable(broken: list[str]) -> dict[str, AgentDefinition]:
    found: dict[str, AgentDefinition] = {}
    for name, definition in registered().items():
        try:
            checked(parse(definition.manifest))
            found[name] = definition
        except RunyardError as error:
            where = f" ({error.field})" if error.field else ""
            broken.append(f"{definition.place or name}: {name}{where}: {error.message}")
    return found


def _unique(
    found: list[tuple[Manifest, str]], definitions: dict[str, AgentDefinition], broken: list[str]
) -> list[Manifest]:
    """The manifests, without those whose agent is declared elsewhere too."""
    places: dict[tuple[str, str], str] = {}
    unique: list[Manifest] = []
    for manifest, file in found:
        key = (manifest.name, manifest.version)
        python = definitions.get(manifest.name)
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
) -> int:
    """Publish these agents for every organisation, and the registered tools for those who may use them; how many
    agents there are. Publishing again changes nothing."""
    documents = [parse(definition.manifest) for definition in definitions] + list(manifests)
    for manifest in documents:
        _check_schemas(manifest)
    with store.begin() as tx:
        for manifest in documents:
            service.publish(tx, org_id, manifest, by="system", shared=True, rules=rules)
        tools.register(tx, [_known(tool) for tool in registered_tools().values()])
    return len(documents)


def _known(tool: ToolDefinition) -> Tool:
    return Tool(tool.name, tool.public, tool.effect, tool.review)


def _check_schemas(manifest: Manifest) -> None:
    """Refuse an agent whose schemas cannot be used: each of its runs would be refused."""
    for name, holder in (("input", manifest.input), ("output", manifest.output)):
        if holder is None or holder.schema_ is None:
            continue
        try:
            schemas.check_schema(holder.schema_, field=f"{name}.schema")
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
        if found is None or found["status"] == "draft":
            self._published.cache_clear()
        if found is None:
            return None
        document = service_manifests.opened(found, self._sealer)
        return StoredManifest(document, bool(found["shared"]), found["org_id"])

    def _read(self, version_id: str) -> dict[str, Any] | None:
        with self._store.read() as conn:
            return store.version(conn, version_id)
