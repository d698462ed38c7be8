"""JSON Schemas made fit for a tiny model, and the smallest value that satisfies one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from runyard_launch.localmodel.completion import Schema

_ANNOTATIONS = {"$comment", "$id", "$schema", "default", "deprecated", "description", "examples", "title"}
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NESTED = ("items", "additionalProperties", "not", "contains")
LONGEST_STRING = 200
LONGEST_ARRAY = 5


def bounded(schema: Any) -> Any:
    """The same schema without annotations and with an end to every string and array.

    A small model fills an unbounded string until its tokens run out, and the JSON never closes.
    """
    if not isinstance(schema, dict):
        return schema
    out = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    for key in _NAMED:
        if isinstance(out.get(key), dict):
            out[key] = {name: bounded(part) for name, part in out[key].items()}
    for key in _LISTS:
        if isinstance(out.get(key), list):
            out[key] = [bounded(part) for part in out[key]]
    for key in _NESTED:
        if key in out:
            out[key] = bounded(out[key])
    types = out.get("type")
    types = types if isinstance(types, list) else [types]
    if "string" in types and not {"enum", "const", "pattern", "format"} & out.keys():
        out["maxLength"] = max(
            min(out.get("maxLength", LONGEST_STRING), LONGEST_STRING), out.get("minLength", 0)
        )
    if "array" in types:
        out["maxItems"] = max(min(out.get("maxItems", LONGEST_ARRAY), LONGEST_ARRAY), out.get("minItems", 0))
    return out


_BY_FORMAT = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "scripted@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": str(uuid.UUID(int=0)),
}


def example(schema: Any, text: str, root: Schema | None = None) -> Any:
    """A value that satisfies `schema`, strings saying `text` where they may. Patterns are not searched."""
    if not isinstance(schema, dict):
        return {}
    root = schema if root is None else root
    if "$ref" in schema:
        return example(_resolve(schema["$ref"], root), text, root)
    for given in _fixed(schema):
        return given
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return example({**_without(schema, key), **schema[key][0]}, text, root)
    if schema.get("allOf"):
        merged = _without(schema, "allOf")
        for part in schema["allOf"]:
            merged = _merged(merged, _resolve(part["$ref"], root) if "$ref" in part else part)
        return example(merged, text, root)
    return _of_type(schema, text, root)


def _of_type(schema: Schema, text: str, root: Schema) -> Any:
    match _type(schema):
        case "object":
            properties = schema.get("properties") or {}
            wanted = dict.fromkeys([*properties, *schema.get("required", [])])
            return {name: example(properties.get(name, {"type": "string"}), text, root) for name in wanted}
        case "array":
            parts = list(schema.get("prefixItems") or [])
            parts += [schema.get("items", {})] * (max(schema.get("minItems", 0), 1) - len(parts))
            return [example(part, text, root) for part in parts][: schema.get("maxItems", len(parts))]
        case "string":
            return _string(schema, text)
        case "integer" | "number" as kind:
            return _number(schema, kind)
        case "boolean":
            return True
        case "null":
            return None
    return text


def _fixed(schema: Schema) -> Iterator[Any]:
    if "const" in schema:
        yield schema["const"]
    yield from schema.get("enum", [])[:1]
    if "default" in schema:
        yield schema["default"]
    yield from (schema.get("examples") or [])[:1]


def _type(schema: Schema) -> str | None:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else None
    return kind


def _string(schema: Schema, text: str) -> str:
    if given := _BY_FORMAT.get(schema.get("format", "")):
        return given
    return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")


def _number(schema: Schema, kind: str) -> float:
    step = schema.get("multipleOf", 1)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        value = 0 if high is None or high > 0 else (high // step - 1) * step
    else:
        value = -(-low // step) * step
        if value == schema.get("exclusiveMinimum"):
            value += step
    if high is not None and value > high and kind == "number":
        value = (low + high) / 2
    return int(value) if kind == "integer" else value


def _resolve(reference: str, root: Schema) -> Schema:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if part else found
    return found if isinstance(found, dict) else {}


def _without(schema: Schema, key: str) -> Schema:
    return {name: value for name, value in schema.items() if name != key}


def _merged(one: Schema, other: Schema) -> Schema:
    properties = {**one.get("properties", {}), **other.get("properties", {})}
    required = [*one.get("required", []), *other.get("required", [])]
    return {**one, **other, **({"properties": properties} if properties else {}), "required": required}
