"""The drafts of JSON Schema that are judged, each by its own rules, and the one engine that judges them. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import jsonschema_rs

from runyard_common.schemas.graph import Graph, Path, SchemaRefused

#: The draft of a schema that names none.
DEFAULT: Final = "2020-12"
_CLASSES: Final[dict[str, type[jsonschema_rs.Validator]]] = {
    "draft-04": jsonschema_rs.Draft4Validator,
    "draft-06": jsonschema_rs.Draft6Validator,
    "draft-07": jsonschema_rs.Draft7Validator,
    "2019-09": jsonschema_rs.Draft201909Validator,
    "2020-12": jsonschema_rs.Draft202012Validator,
}
_ADDRESS: Final = re.compile(r"https?://json-schema\.org/(?:draft/)?([0-9a-z-]+)/schema#?")
#: Drafts in which a reference excludes other keywords, and identifiers may be spelled `id`.
_OLDER: Final = frozenset({"draft-04", "draft-06", "draft-07"})
#: Compiled patterns and their tables, in bytes. The cost of a schema's patterns is bounded first.
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=8 * 2**20, dfa_size_limit=2**20)


def draft_of(schema: Any) -> str:
    """The draft that a schema names. Errors: `SchemaRefused` for one that is not judged here."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    if named is None:
        return DEFAULT
    draft = _draft(named)
    if draft is None:
        raise SchemaRefused(
            f"{str(named)[:200]!r} is no draft that is known here; known are {', '.join(_CLASSES)}",
            ("$schema",),
        )
    return draft


def is_older(draft: str) -> bool:
    """Whether a reference excludes other keywords in a draft."""
    return draft in _OLDER


def refuse_mixed(graph: Graph) -> None:
    """Refuse schemas whose parts name another draft than the whole."""
    own = graph.root.schema.get("$schema") if isinstance(graph.root.schema, dict) else None
    for node in graph.nodes():
        named = node.schema.get("$schema") if isinstance(node.schema, dict) else None
        if named is not None and node is not graph.root and _draft(named) != _draft(own or DEFAULT):
            path: Path = (*node.path, "$schema")
            raise SchemaRefused("a part names another draft than the whole; name one draft, at the top", path)


def _draft(named: Any) -> str | None:
    if not isinstance(named, str):
        return None
    found = _ADDRESS.fullmatch(named)
    return found.group(1) if found and found.group(1) in _CLASSES else None


def validator_of(
    schema: Any, draft: str, registry: jsonschema_rs.Registry | None = None
) -> jsonschema_rs.Validator:
    """The engine's form of a schema, as an object or JSON text: nothing is fetched, patterns match in linear time.

    Errors: `jsonschema_rs.ValidationError` when the schema breaks its draft's own schema.
    """
    return _CLASSES[draft](
        schema,
        registry=registry,
        validate_formats=True,
        pattern_options=_PATTERNS,
        offline=True,
    )
