"""Input schemas of MCP tools, brought into the form that every model provider accepts: an object at the root. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from runyard_common.schemas import checks
from runyard_common.values import pointers
from runyard_common.values.errors import InvalidRequest
from runyard_workers.agent.wire.text import dump

#: Longest schema of a tool, in bytes of JSON.
MOST_BYTES: Final = 100_000
#: Parts (references, alternatives) that may meet at the root of one.
MOST_PARTS: Final = 500
_ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf")
#: Keywords that providers refuse at the root.
_REFUSED: Final = (*_ALTERNATIVES, "not", "enum", "const", "if", "then", "else", "$ref")


class Unusable(Exception):
    """The schema cannot be used; the message is the reason."""


def usable(schema: Any) -> dict[str, Any]:
    """The schema of the arguments as a model gets it. Raises `Unusable`.

    Nothing and ``{}`` allow any object. A reference at the root is replaced by what it names, alternatives at the root
    by an object that allows what any of them does: the server checks the arguments for itself.
    """
    if schema is None or schema is True or schema == {}:
        return {"type": "object"}
    if not isinstance(schema, dict):
        raise Unusable("its input schema is not an object")
    if len(dump(schema)) > MOST_BYTES:
        raise Unusable(f"its input schema is longer than {MOST_BYTES:,} bytes")
    root = _merged(schema, _Whole(schema), frozenset())
    if root.get("type") == ["object", "null"]:
        root["type"] = "object"
    if root.setdefault("type", "object") != "object":
        raise Unusable("its arguments are no object")
    if not isinstance(root.get("properties", {}), dict):
        raise Unusable("its properties are no object")
    for reference in _references(root):
        if not reference.startswith("#") or _named(root, reference) is None:
            raise Unusable(f"its input schema refers to {reference[:100]!r}, which is not in it")
    try:
        checks.check_schema(root)
    except InvalidRequest as refusal:
        raise Unusable(refusal.message) from None
    return root


class _Whole:
    """The whole schema, and how many parts of it may yet be brought to its root: references multiply."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self._left = MOST_PARTS

    def count(self) -> None:
        """Count one part. Raises `Unusable` behind the last."""
        self._left -= 1
        if self._left < 0:
            raise Unusable(f"its input schema brings more than {MOST_PARTS} parts together at its root")


def _merged(schema: dict[str, Any], whole: _Whole, seen: frozenset[str]) -> dict[str, Any]:
    """The schema without the keywords that no root may have."""
    whole.count()
    root = {name: value for name, value in schema.items() if name not in _REFUSED}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = _named(whole.schema, reference)
        if target is None or reference in seen:
            raise Unusable(f"its input schema refers to {reference[:100]!r}, which is not in it")
        root = _united(root, [_merged(target, whole, seen | {reference})], every=True)
    for name in _ALTERNATIVES:
        branches = schema.get(name)
        if isinstance(branches, list):
            parts = [_merged(one, whole, seen) for one in branches if isinstance(one, dict)]
            root = _united(root, parts, every=name == "allOf")
    return root


def _united(root: dict[str, Any], parts: list[dict[str, Any]], *, every: bool) -> dict[str, Any]:
    """`root` with the properties of all `parts`; required are those of `every` part, or of each of them."""
    parts = [part for part in parts if part.get("type", "object") == "object"]
    united = dict(root)
    for part in parts:
        for name, value in part.items():
            if name == "properties" and isinstance(value, dict):
                united["properties"] = {**value, **(united.get("properties") or {})}
            elif name not in ("required", "additionalProperties"):
                united.setdefault(name, value)
    wanted = [set(_texts(part.get("required"))) for part in parts]
    agreed = set.union(*wanted) if wanted and every else set.intersection(*wanted) if wanted else set()
    required = [*_texts(root.get("required")), *sorted(agreed - set(_texts(root.get("required"))))]
    if required:
        united["required"] = required
    if parts:
        united.pop("additionalProperties", None)
    return united


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            if name in ("$ref", "$dynamicRef") and isinstance(one, str):
                yield one
            else:
                yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def _named(whole: dict[str, Any], reference: str) -> dict[str, Any] | None:
    """What a reference like ``#/$defs/Node`` names."""
    if reference in ("#", ""):
        return whole
    found: Any = whole
    for name in pointers.parts(reference.removeprefix("#")):
        found = found.get(name.replace("%24", "$")) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
