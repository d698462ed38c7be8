"""Manifests at rest: their credentials sealed, what may name which tool, and what whom is shown of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from runyard_common.agents.rules.manifests import digest
from runyard_common.agents.rules.tool_access import NOT_OPENED, PublicTools
from runyard_common.credentials.rules import documents
from runyard_common.credentials.rules.sealing import SealBroken, Sealer
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError
from runyard_common.values.json_text import JsonObject

#: What every organisation that may run an agent sees of it, and of its input and output.
_OPEN: Final = ("name", "version", "kind", "display_name", "description", "functional")
_TEXTS: Final = ("version", "description", "display_name")
_OPEN_INPUT: Final = ("schema", "fileConstraints")


@dataclass(frozen=True, slots=True)
class PublishRules:
    """With which key an installation seals what it publishes, and which tools are open to every agent."""

    sealer: Sealer | None = None
    public_tools: PublicTools = NOT_OPENED
    revises: bool = (
        False  # the operator's manifests with other content become versions of their own, as code does
    )

    @staticmethod
    def of(settings: Settings, sealer: Sealer, revises: bool = False) -> PublishRules:
        """The rules these settings make."""
        return PublishRules(sealer, PublicTools.parse(settings.public_tools), revises)


#: Enough for manifests without credentials and without registered tools.
PLAIN: Final = PublishRules()


class Stored(Protocol):
    """The part of a version that holds its manifest."""

    @property
    def manifest(self) -> JsonObject | None:
        """The manifest, without its credentials."""

    @property
    def secrets(self) -> bytes | None:
        """Its credentials, sealed."""


@dataclass(frozen=True, slots=True)
class SealedManifest:
    """A manifest as columns of its version."""

    manifest: JsonObject
    secrets: bytes | None
    digest: str


def sealed(document: Mapping[str, Any], rules: PublishRules) -> SealedManifest:
    """A manifest as it is stored."""
    shown, found = documents.split(document)
    if found and rules.sealer is None:
        raise ConfigurationError(
            "A manifest with credentials needs a key to seal them.", field="RUNYARD_SECRET_KEY"
        )
    secrets = rules.sealer.seal(found) if found and rules.sealer is not None else None
    return SealedManifest(shown, secrets, digest(shown))


def opened(version: Stored, sealer: Sealer | None) -> JsonObject:
    """The manifest of a version with its credentials. `SealBroken` when they were sealed with another key."""
    document = dict(version.manifest or {})
    if version.secrets is None:
        return document
    if sealer is None:
        raise ConfigurationError("This manifest's credentials need a key.", field="RUNYARD_SECRET_KEY")
    return documents.put_back(document, sealer.open(version.secrets))


def kept(document: Mapping[str, Any], before: Iterable[Stored | None], rules: PublishRules) -> JsonObject:
    """The manifest with each ``********`` as it was in the first of these versions that has it.

    Error: `InvalidRequest` credential_missing.
    """
    if not _mentions_sealed(document):
        return dict(document)
    return documents.keep(document, [opened(row, rules.sealer) for row in before if row is not None])


def _mentions_sealed(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_mentions_sealed, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_mentions_sealed, value))
    return isinstance(value, str) and documents.SEALED in value


def is_same(version: Stored, document: Mapping[str, Any], rules: PublishRules) -> bool:
    """Whether a version has this content, its credentials included."""
    try:
        whole = opened(version, rules.sealer)
    except (
        SealBroken,
        ConfigurationError,
    ):  # a key that is lost: what is published now is sealed by the present one
        return False
    return digest(whole) == digest(dict(document))


def only_seal_differs(version: Stored, document: JsonObject, rules: PublishRules) -> bool:
    """Whether a version's credentials cannot be opened any more, and all else is the same: they are sealed again."""
    try:
        opened(version, rules.sealer)
    except (SealBroken, ConfigurationError):
        return digest(documents.split(document)[0]) == digest(dict(version.manifest or {}))
    return False


def contract(document: Mapping[str, Any]) -> JsonObject:
    """The part of a Python agent's manifest that is its version's, as it is stored: all but its number and texts."""
    shown = documents.split(document)[0]
    return {name: value for name, value in shown.items() if name not in _TEXTS}


def shown(owner_id: str, manifest: Mapping[str, Any] | None, org_id: str) -> JsonObject:
    """What an organisation sees of a manifest: of its own all but credentials, of others' (`owner_id`) the outside."""
    document = dict(manifest or {})
    if owner_id == org_id:
        return documents.split(document)[0]  # a process of an older version may have stored them plainly
    outside: JsonObject = {name: document[name] for name in _OPEN if name in document}
    for name in ("input", "output"):
        holder = document.get(name)
        if isinstance(holder, Mapping):
            outside[name] = {key: holder[key] for key in _OPEN_INPUT if key in holder}
    return outside
