"""JSON Schemas of the OpenAPI document, from pydantic models, in the form that linters and generators take.

Every `$ref` leads to `#/components/schemas`. No schema carries the keyword `default`: openapi-typescript and others
make a field with a default required, in requests where it may be left out and in answers where it may be absent. The
description names the default instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

REFS: Final = "#/components/schemas/{model}"
#: Keywords that hold one schema, a list of schemas, or schemas by name.
_ONE: Final = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED: Final = ("properties", "patternProperties", "$defs")


class _Schemas(GenerateJsonSchema):
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own form


def components(models: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """The schemas of these models, and of the models within them, by name."""
    _, whole = models_json_schema(
        [(model, "validation") for model in models],
        ref_template=REFS,
        by_alias=True,
        schema_generator=_Schemas,
    )
    found: dict[str, Any] = whole.get("$defs", {})
    for name, schema in found.items():
        _unwrap_single_choices(schema)
        # In a change a field that is left out keeps its value; the default of the model is not applied.
        _describe_defaults(schema, named="Change" not in name)
    return found


def parameters(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of query parameters. A parameter is inline, so what it refers to is put in its place."""
    whole = model.model_json_schema(schema_generator=_Schemas)
    inlined: dict[str, Any] = _inlined(whole, whole.get("$defs", {}))
    return inlined


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and every schema within it; values such as `enum` and `examples` are not searched."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key in _ONE:
        yield from subschemas(schema.get(key))
    for key in _LISTS:
        for inner in schema.get(key, ()):
            yield from subschemas(inner)
    for key in _NAMED:
        for inner in schema.get(key, {}).values():
            yield from subschemas(inner)


def _describe_defaults(schema: dict[str, Any], named: bool) -> None:
    for inner in subschemas(schema):
        value = inner.pop("default", None)
        if not named or value in (None, "", [], {}) or "const" in inner:
            continue
        description = inner.get("description", "")
        if "default" not in description.lower():
            inner["description"] = f"{description} Default: {json.dumps(value)}.".lstrip()


def _unwrap_single_choices(schema: dict[str, Any]) -> None:
    """A choice among one is that one; models that take null out of a field's choices leave such."""
    for inner in subschemas(schema):
        while len(inner.get("anyOf", ())) == 1:
            (only,) = inner.pop("anyOf")
            inner.update(only | inner)


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    siblings = {
        key: _inlined(value, definitions) for key, value in node.items() if key not in ("$ref", "$defs")
    }
    if "$ref" not in node:
        return siblings
    referred = _inlined(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    return {key: value for key, value in referred.items() if key != "title"} | siblings
