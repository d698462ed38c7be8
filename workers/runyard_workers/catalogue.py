"""The agents this process can run: Python agents from RUNYARD_AGENTS, declared ones from their stored manifests."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import yaml

import runyard
from runyard.authoring import AgentDefinition, registered, restore
from runyard.tools import ToolDefinition, registered_tools
from runyard_common.domain import schemas
from runyard_common.domain.errors import ConfigurationError, Conflict, InvalidRequest, RunyardError
from runyard_common.domain.manifests import Manifest, parse
from runyard_common.domain.sealing import Sealer
from runyard_common.domain.specs import versioned
from runyard_common.services import agents as service
from runyard_common.services import manifests as service_manifests
from runyard_common.services import tools
from runyard_common.services.manifests import PLAIN, PublishRules
from runyard_common.services.start_checks import missing_agents
from runyard_common.store import agents as store_agents
from runyard_common.store.registered_tools import Tool
from runyard_common.store.transaction import Store
from runyard_workers.exceptions import abnormal, summary

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
    for source in sources:
        for read in _parts(source):
            try:
                found += read()
            except _Broken as error:
                broken.append(error.message)
    definitions = _usable(broken)
    return Loaded(definitions, _unique(found, definitions, broken), broken)


class _Broken(ConfigurationError):
    """A source is there and cannot be used."""


_Part = Callable[[], list[tuple[Manifest, str]]]


def _parts(source: str) -> list[_Part]:
    path = Path(source)
    if not path.is_dir():
        return [_part(path) or partial(_import_module, source)]
    files = sorted(f for f in path.iterdir() if f.suffix != ".py" or not f.name.startswith("_"))
    return [part for part in map(_part, files) if part is not None]


def _part(file: Path) -> _Part | None:
    if file.suffix == ".py" and file.is_file():
        return partial(_import_file, file)
    if file.suffix in _DOCUMENTS and file.is_file():
        return lambda: [(manifest_of(file), str(file))]
    return None


def manifest_of(file: Path) -> Manifest:
    """The manifest in a YAML or JSON file. Raises `ConfigurationError` with its file, line and column."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return _checked(parse(yaml.safe_load(text)))
    except OSError as error:
        raise _Broken(f"{file}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _Broken(f"{file}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x}).") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _Broken(f"{file}{at}: {error.problem or error.context}.") from None
    except yaml.reader.ReaderError as error:
        raise _Broken(f"{file}: a character that YAML does not allow ({error.character!r}).") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _Broken(f"{file}: {summary(error)}.") from None
    except RunyardError as error:
        raise _Broken(f"{file}: {error.message}") from None


def _checked(manifest: Manifest) -> Manifest:
    """Refuse schemas that no value could be checked against: each run would fail."""
    for name, holder in (("input", manifest.input), ("output", manifest.output)):
        if holder is not None and holder.schema_ is not None:
            schemas.check_schema(holder.schema_, field=f"{name}.schema")
    return manifest


def _usable(broken: list[str]) -> dict[str, AgentDefinition]:
    found: dict[str, AgentDefinition] = {}
    for name, definition in registered().items():
        try:
            _checked(parse(definition.manifest))
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


def _import_file(file: Path) -> list[tuple[Manifest, str]]:
    name = f"runyard_agents_{file.stem}_{abs(hash(str(file.resolve())))}"
    if name in sys.modules:
        return []
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _named(str(file)):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return []


def _import_module(name: str) -> list[tuple[Manifest, str]]:
    if "" not in sys.path and "." not in sys.path:
        sys.path.insert(0, "")  # modules beside the process, as `python -m` finds them
    with _named(name):
        importlib.import_module(name)
    return []


@contextmanager
def _named(source: str) -> Iterator[None]:
    """An import that fails, or exits, names its source, and leaves no agent of it behind."""
    before = registered()
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        restore(before)
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name
            and f"{source}.".startswith(f"{error.name}.")
        ):
            raise missing_agents(source) from None
        ordinary = error if isinstance(error, Exception) else abnormal(error)
        raise _Broken(f"{source}{_line(error)}: {summary(ordinary)}") from error


def _line(error: BaseException) -> str:
    """Where in the author's code it broke."""
    if isinstance(error, SyntaxError):
        return ""  # its text has it
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen ")]
    inside = [f for f in frames if Path(f.filename).resolve().parent not in _OURS]
    return f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else ""


_OURS = [Path(str(file)).resolve().parent for file in (__file__, importlib.__file__, runyard.__file__)]


def publish(
    store: Store,
    org_id: str,
    definitions: Iterable[AgentDefinition],
    manifests: Iterable[Manifest],
    rules: PublishRules = PLAIN,
    refused: list[str] | None = None,
) -> int:
    """Publish these agents for every organisation, and the registered tools for those who may use them; how many
    agents there are. Publishing again changes nothing.

    `Conflict` version_exists for a manifest whose version was published with other content; with `refused`, the
    reason goes there, and the others are published.
    """
    documents = [parse(definition.manifest) for definition in definitions] + list(manifests)
    for manifest in documents:
        _check_schemas(manifest)
    with store.begin() as tx:
        left_out: list[str] = []
        for manifest in documents:
            try:
                service.publish(tx, org_id, manifest, by="system", shared=True, rules=rules)
            except Conflict as conflict:
                if refused is None:
                    raise
                left_out.append(conflict.message)
        tools.register(tx, [_known(tool) for tool in registered_tools().values()])
    if refused is not None:
        refused += left_out
    return len(documents) - len(left_out)


def split_known(
    store: Store, org_id: str, definitions: Iterable[AgentDefinition], manifests: Sequence[Manifest]
) -> tuple[list[Manifest], list[str]]:
    """The manifests whose tools and agents are there, or come with them, and what is wrong with the others."""
    known = {definition.name for definition in definitions} | set(registered_tools())
    left, problems = list(manifests), list[str]()
    while True:  # one that is left out may be what another calls
        with store.read() as conn:
            found = tools.check_known(conn, org_id, [manifest.to_json() for manifest in left], known)
        if not any(found):
            return left, problems
        for manifest, refusals in zip(left, found, strict=True):
            problems += [f"{manifest.name} {manifest.version}: {one.message}" for one in refusals]
        left = [manifest for manifest, refusals in zip(left, found, strict=True) if not refusals]


def versions_of(store: Store, org_id: str, definitions: Iterable[AgentDefinition]) -> tuple[str, ...]:
    """The published versions (name@version) that these Python agents can run: their own, and those of the same number
    that take and give the same and differ in options alone. A run that waited for a person goes on in a worker whose
    code has another timeout since."""
    found: list[str] = []
    with store.read() as conn:
        for definition in definitions:
            agent = store_agents.by_name(conn, org_id, definition.name)
            mine = service_manifests.contract(parse(definition.manifest).to_json())
            for row in store_agents.versions(conn, agent["id"]) if agent is not None else ():
                if row["version"].partition("+")[0] != definition.version.partition("+")[0]:
                    continue
                version = store_agents.version(conn, row["id"])
                if version is not None and _fits(mine, version["manifest"] or {}):
                    found.append(versioned(definition.name, row["version"]))
    return tuple(found)


def _fits(mine: dict[str, Any], published: dict[str, Any]) -> bool:
    return all(mine.get(name) == published.get(name) for name in ("kind", "input", "output"))


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

    def owner(self, version_id: str) -> str | None:
        """The organisation that published a version; None when it was deleted. Reads the database, as `get`."""
        found = self._published(version_id)
        return None if found is None else str(found["org_id"])

    def _read(self, version_id: str) -> dict[str, Any] | None:
        with self._store.read() as conn:
            return store_agents.version(conn, version_id)
