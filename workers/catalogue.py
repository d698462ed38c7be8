"""The agents this process can run: Python agents from RUNYARD_AGENTS, declared ones from their stored manifests."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
import yaml

from common.domain import schemas
from common.domain.errors import ConfigurationError, InvalidRequest, RunyardError
from common.domain.manifests import Manifest, parse
from common.services import agents as service
from common.store import agents as store
from common.store.transaction import Store
from runyard.authoring import AgentDefinition, registered

_DOCUMENTS = (".yaml", ".yml", ".json")
logger = structlog.get_logger("runyard.catalogue")


def load(sources: Iterable[str]) -> tuple[dict[str, AgentDefinition], list[Manifest]]:
    """Import the modules and read the manifest folders that `sources` name.

    A folder may hold manifests (``*.yaml``, ``*.yml``, ``*.json``) and Python files with agents. Returns every
    registered Python agent, and the manifests of the declared ones. Raises `ConfigurationError` naming the source
    that cannot be loaded.
    """
    manifests: list[Manifest] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            manifests.extend(_folder(path))
        elif path.suffix == ".py" and path.is_file():
            _import_file(path)
        elif path.suffix in _DOCUMENTS and path.is_file():
            manifests.append(_manifest(path))
        else:
            _import_module(source)
    return registered(), manifests


def _folder(folder: Path) -> list[Manifest]:
    for file in sorted(folder.glob("*.py")):
        if not file.name.startswith("_"):
            _import_file(file)
    found = sorted(f for f in folder.iterdir() if f.suffix in _DOCUMENTS)
    return [_manifest(file) for file in found]


def _manifest(file: Path) -> Manifest:
    try:
        return parse(yaml.safe_load(file.read_text()))
    except (OSError, yaml.YAMLError, RunyardError) as error:
        raise ConfigurationError(f"RUNYARD_AGENTS: {file}: {error}") from None


def _import_file(file: Path) -> None:
    name = f"runyard_agents_{file.stem}_{abs(hash(str(file.resolve())))}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigurationError(f"RUNYARD_AGENTS: {file}: {type(error).__name__}: {error}") from error


def _import_module(name: str) -> None:
    if "" not in sys.path and "." not in sys.path:
        sys.path.insert(0, "")  # modules beside the process, as `python -m` finds them
    try:
        importlib.import_module(name)
    except Exception as error:
        raise ConfigurationError(f"RUNYARD_AGENTS: {name}: {type(error).__name__}: {error}") from error


def publish(
    store: Store, org_id: str, definitions: Iterable[AgentDefinition], manifests: Iterable[Manifest]
) -> int:
    """Publish these agents for every organisation; how many there are. Publishing again changes nothing."""
    documents = [parse(definition.manifest) for definition in definitions] + list(manifests)
    for manifest in documents:
        _check_schemas(manifest)
    with store.begin() as tx:
        for manifest in documents:
            service.publish(tx, org_id, manifest, by="system", shared=True)
    return len(documents)


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


class Manifests:
    """Manifests by version id, cached: a published version never changes, a draft's lasts a moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._published = lru_cache(maxsize=1024)(self._read)

    def get(self, version_id: str) -> dict[str, Any] | None:
        """The manifest of one version; None when it was deleted. Reads the database: call it in a thread."""
        found = self._published(version_id)
        if found is None or found[0] == "draft":
            self._published.cache_clear()
        return found[1] if found else None

    def _read(self, version_id: str) -> tuple[str, dict[str, Any]] | None:
        with self._store.read() as conn:
            row = store.version(conn, version_id)
        return (row["status"], row["manifest"]) if row else None
