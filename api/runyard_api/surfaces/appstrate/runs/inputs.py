"""A run's input against its agent's JSON Schema: coerced first, then judged; its file fields. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from runyard_common.runs.rules.run_request import MOST_METADATA_BYTES
from runyard_common.schemas import checks
from runyard_common.values.errors import InvalidRequest

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
#: Characters of a number in a text.
_LONGEST_NUMBER: Final = 400
#: Bytes of a run's configuration as JSON, which is kept in its metadata.
_LARGEST_CONFIG: Final = MOST_METADATA_BYTES - 100
_TYPES: Final = {
    "string": str, "integer": int, "number": int | float, "boolean": bool, "object": dict, "array": list,
    "null": type(None),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileField:
    """A property that takes files. `most` is None for a single one without bound, `types` are extensions."""

    name: str
    required: bool
    many: bool
    most: int | None
    largest: int | None
    types: tuple[str, ...]


def input_schema(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The input schema of a manifest; empty where anything goes (no properties)."""
    schema = (manifest.get("input") or {}).get("schema")
    return dict(schema) if isinstance(schema, dict) and schema.get("properties") else {}


def file_fields(manifest: Mapping[str, Any]) -> dict[str, FileField]:
    """The file fields by name: ``format: uri`` with ``contentMediaType``, or arrays of those.

    Bounds are in ``input.fileConstraints``: ``{field: {maxSize: bytes, accept: ".pdf,.png"}}``.
    """
    schema = input_schema(manifest)
    bounds = (manifest.get("input") or {}).get("fileConstraints") or {}
    required = schema.get("required") or ()
    found = {}
    for name, prop in (schema.get("properties") or {}).items():
        many = isinstance(prop, dict) and prop.get("type") == "array"
        if _is_file(prop.get("items") if many else prop):
            found[name] = _field(name, prop, bounds.get(name) or {}, name in required, many)
    return found


def _is_file(prop: Any) -> bool:
    return isinstance(prop, dict) and prop.get("format") == "uri" and "contentMediaType" in prop


def _field(name: str, prop: dict[str, Any], bounds: dict[str, Any], required: bool, many: bool) -> FileField:
    accepted = str(bounds.get("accept") or "").lower().split(",")
    types = tuple(kind.strip() for kind in accepted if kind.strip().startswith("."))
    return FileField(name, required, many, prop.get("maxItems") if many else 1, bounds.get("maxSize"), types)


def check_files(fields: Mapping[str, FileField], given: Mapping[str, list[tuple[str, int]]]) -> None:
    """Judge uploads, by field (name, bytes); the first violation as `InvalidRequest` with its field."""
    for name in given:
        if name not in fields:
            raise _bad(name, f"The agent takes no files as {name!r}.")
    for name, field in fields.items():
        files = given.get(name, [])
        if field.required and not files:
            raise _bad(name, f"{name}: a file is required.")
        if field.most is not None and len(files) > field.most:
            raise _bad(name, f"{name}: at most {field.most} file{'s' if field.most > 1 else ''}.")
        for file, size in files:
            if field.largest is not None and size > field.largest:
                raise _bad(name, f"{name}: {file} has more than {field.largest:,} bytes.")
            if field.types and not file.lower().endswith(field.types):
                raise _bad(name, f"{name}: {file} is none of {', '.join(field.types)}.")


def judged(value: Any, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The input, coerced; `InvalidRequest` invalid_request that names the first field that does not fit."""
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise _bad("input", "input is an object.")
    schema = input_schema(manifest)
    if not schema:
        return value
    files = file_fields(manifest)
    schema = schema | {
        "properties": {name: prop for name, prop in schema["properties"].items() if name not in files},
        "required": [name for name in schema.get("required") or () if name not in files],
    }
    coerced = coerce({name: item for name, item in value.items() if name not in files}, schema)
    for name in schema["required"]:
        if coerced.get(name) == "":
            raise _bad(name, f"{name}: a value is required.")
    found = checks.violations(coerced, schema)
    if found:
        listed = [v.to_json() | {"field": _path(v.field)} for v in found]
        first = listed[0]
        raise InvalidRequest(
            f"{first['field']}: {first['message']}",
            code="invalid_request",
            field=first["field"],
            errors=listed,
        )
    return dict(coerced)


def configuration(value: Any, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a request's `config` gives of the agent's config.schema, coerced; `InvalidRequest` names what does not fit.

    A known client sends `config` to every agent: what the schema does not have is ignored.
    """
    schema = (manifest.get("config") or {}).get("schema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return {}
    known = {name: coerce(item, properties[name]) for name, item in value.items() if name in properties}
    if len(orjson.dumps(known)) > _LARGEST_CONFIG:
        raise _bad("config", f"config has more than {_LARGEST_CONFIG:,} bytes.")
    found = checks.violations(known, {"properties": properties})
    if found:
        raise _bad(f"config.{_path(found[0].field)}", f"{_path(found[0].field)}: {found[0].message}")
    return known


def configured(manifest: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with a run's configuration in it."""
    return {**manifest, "config": {**config, **(manifest.get("config") or {})}}


def _path(field: str) -> str:
    return field.removeprefix("$").lstrip(".") or "input"


def _bad(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_request", field=field)


def coerce(value: Any, schema: Any) -> Any:
    """The value with scalars turned into the types the schema names, where that loses nothing."""
    if not isinstance(schema, dict):
        return value
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        return {name: coerce(item, properties.get(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [coerce(item, schema.get("items")) for item in value]
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if not kinds or any(_is(value, kind) for kind in kinds):
        return value
    for kind in kinds:
        turned = _turned(value, kind)
        if _is(turned, kind):
            return turned
    return value


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, ()))


def _turned(value: Any, kind: str) -> Any:
    match kind:
        case "string" if isinstance(value, bool):
            return "true" if value else "false"
        case "string":
            return "" if value is None else str(value)
        case "number" | "integer":
            return _number(value)
        case "boolean":
            return {"true": True, "false": False, 1: True, 0: False, None: False}.get(value, value)
        case "null" if value in ("", 0, False):
            return None
    return value


def _number(value: Any) -> Any:
    if value is None:
        return 0
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value.strip()):
        number = float(value)
        if math.isfinite(number):
            return int(value) if value.strip().lstrip("+-").isdigit() else number
    return value
