"""What an output must look like: a JSON Schema from a manifest, an output_config or a final_output. Pure.

Callers give schemas as objects, as JSON text, as a sample shape (``{"total": "number"}``) or as prose; all become
one contract that a model is bound to and its answer is checked against.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

import jsonschema_rs
import orjson

from runyard_common.schemas import checks, work
from runyard_common.schemas.graph import DEEPEST
from runyard_common.values.errors import InvalidRequest

NAME: Final = "final_result"
_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
#: Any of these makes an object a JSON Schema and not a sample of the wanted shape.
_KEYWORDS: Final = frozenset(
    {
        "$schema",
        "$ref",
        "$defs",
        "properties",
        "items",
        "anyOf",
        "oneOf",
        "allOf",
        "enum",
        "const",
        "required",
    }
)
_WRAP: Final = "result"


@dataclass(frozen=True, slots=True)
class OutputContract:
    """The shape an output must have. `schema` is always an object's; `wrapped`: it holds another value.

    `name` is what models call it, `title` what the caller does. `guidance` is what the caller asked for. `strict`
    asks the provider to enforce the schema itself, or not to; None leaves that to what the schema allows. With
    `lenient` the closest output is taken and logged if none fits the schema after its repairs.
    """

    schema: dict[str, Any]
    name: str = NAME
    guidance: str = ""
    strict: bool | None = None
    wrapped: bool = False
    lenient: bool = False
    title: str = NAME

    def violations(self, value: Any) -> list[checks.Violation]:
        """What is wrong with the object a model answered with; empty when it fits."""
        return checks.violations(value, self.schema, field="output")

    @property
    def for_model(self) -> dict[str, Any]:
        """The schema as models are given it: their library resolves references to `$defs` only, so that others,
        such as draft-07's `definitions`, are written out."""
        if not _refers_elsewhere(self.schema):
            return self.schema
        written: dict[str, Any] = jsonschema_rs.dereference(self.schema, offline=True)
        return {key: value for key, value in written.items() if key not in ("definitions", "$defs")}

    def wrap(self, value: Any) -> Any:
        """The object that a model would have given for this output: see `unwrap`."""
        return {_WRAP: value} if self.wrapped else value

    def unwrap(self, value: Any) -> Any:
        """The output as the caller's schema means it."""
        return value.get(_WRAP, value) if self.wrapped else value


def from_schema(schema: Any, *, field: str, name: str = NAME, strict: bool | None = None) -> OutputContract:
    """The contract of a schema in any of its forms; `InvalidRequest` invalid_schema when it cannot be used."""
    if isinstance(schema, str):
        return _from_text(schema, field, name, strict)
    _refuse_deep(schema, field)
    if not isinstance(schema, dict):
        raise InvalidRequest("A schema is an object, JSON text or prose.", code="invalid_schema", field=field)
    if not is_json_schema(schema):
        schema = of_sample(schema)
    check_output(schema, field=field)
    return _objectified(OutputContract(schema, _identifier(name), "", strict, title=name))


def check_output(schema: Any, *, field: str) -> None:
    """Refuse a JSON Schema that no model can be bound to: `InvalidRequest` invalid_schema or schema_too_large.

    Models are given a schema with its references written out, so these must end, and not multiply.
    """
    bounds = checks.bounds_of(schema, field=field)
    if bounds.recursive:
        raise InvalidRequest(
            "An output's schema may not refer to itself: models are given it with every reference written out. "
            "Write the levels out that are wanted.",
            code="invalid_schema",
            field=field,
        )
    if bounds.expanded > work.MOST_EXPANDED:
        raise InvalidRequest(
            f"With every reference written out, as models are given it, this schema has more than "
            f"{work.MOST_EXPANDED:,} parts. Refer to fewer parts, or less often.",
            code="schema_too_large",
            field=field,
        )


def _refers_elsewhere(schema: Any) -> bool:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#/$defs/"):
            return True
        return any(map(_refers_elsewhere, schema.values()))
    return isinstance(schema, list) and any(map(_refers_elsewhere, schema))


def _refuse_deep(schema: Any, field: str) -> None:
    level = [schema]
    for _ in range(DEEPEST + 1):
        level = [
            one
            for outer in level
            if isinstance(outer, dict | list)
            for one in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise InvalidRequest(
        f"The schema is nested more than {DEEPEST} deep.", code="schema_too_large", field=field
    )


def from_output_config(config: Any, *, field: str = "output_config") -> OutputContract | None:
    """An `output_config` ``{output_schema?, instructions?}``, itself an object or JSON text; None if empty."""
    if isinstance(config, str):
        config = _json(config, field)
    if config is None or config == {}:
        return None
    if not isinstance(config, dict):
        raise InvalidRequest("output_config is an object.", code="invalid_schema", field=field)
    schema, guidance = config.get("output_schema"), str(config.get("instructions") or "").strip()
    if schema in (None, "", {}):
        return None
    contract = from_schema(schema, field=f"{field}.output_schema")
    return replace(contract, guidance="\n\n".join(part for part in (contract.guidance, guidance) if part))


def instructions_of(config: Any) -> str:
    """The formatting instructions of an output_config, which count without a schema too."""
    if isinstance(config, str):
        config = _json(config, "output_config")
    return str(config.get("instructions") or "").strip() if isinstance(config, dict) else ""


def from_final_output(wanted: Any, *, field: str = "final_output") -> OutputContract | None:
    """A `final_output` ``{name, schema, strict?}``; without `strict` the schema is a guide."""
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or "schema" not in wanted:
        raise InvalidRequest("final_output needs a schema.", code="invalid_schema", field=f"{field}.schema")
    name, strict = str(wanted.get("name") or NAME), wanted.get("strict") is True
    contract = from_schema(wanted["schema"], field=f"{field}.schema", name=name, strict=strict)
    return replace(contract, lenient=not strict)


def is_json_schema(value: dict[str, Any]) -> bool:
    """Whether an object is a JSON Schema rather than a sample of the wanted shape."""
    kind = value.get("type")
    known = (
        kind in _TYPES if isinstance(kind, str) else isinstance(kind, list) and set(map(str, kind)) <= _TYPES
    )
    if known and (len(value) == 1 or kind != "string" or set(value) & _STRING_KEYWORDS):
        return True
    return any(key in value and not isinstance(value[key], str) for key in _KEYWORDS) or "$ref" in value


_STRING_KEYWORDS: Final = frozenset(
    {"enum", "const", "pattern", "format", "minLength", "maxLength", "title", "description"}
)


def of_sample(sample: Any) -> dict[str, Any]:
    """The schema of a sample: ``{"total": "number", "lines": [{"sku": "the article's code"}]}``."""
    if isinstance(sample, dict):
        properties = {str(key): of_sample(value) for key, value in sample.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(sample, list):
        return {"type": "array"} | ({"items": of_sample(sample[0])} if sample else {})
    if isinstance(sample, bool):
        return {"type": "boolean"}
    if isinstance(sample, int | float):
        return {"type": "number"}
    if isinstance(sample, str) and sample.strip().lower() in _TYPES:
        return {"type": sample.strip().lower()}
    if isinstance(sample, str):
        return {"type": "string", "description": sample} if sample.strip() else {"type": "string"}
    return {}


def _from_text(text: str, field: str, name: str, strict: bool | None) -> OutputContract:
    if text.strip()[:1] in ("{", "["):
        value = _json(text, field)
        _refuse_deep(value, field)
        schema = value if isinstance(value, dict) else of_sample(value)
        return from_schema(schema, field=field, name=name, strict=strict)
    if not text.strip():
        raise InvalidRequest("The schema is empty.", code="invalid_schema", field=field)
    # Prose binds to an object; its words go to the model.
    schema = {"type": "object", "minProperties": 1}
    return OutputContract(schema, _identifier(name), f"The output's shape: {text.strip()}", False, title=name)


def _json(text: str, field: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"This is not JSON: {error}.", code="invalid_schema", field=field) from None


def _objectified(contract: OutputContract) -> OutputContract:
    """Models answer with objects: any other value travels inside one."""
    schema = contract.schema
    if schema.get("type") == "object" or ("type" not in schema and "properties" in schema):
        return replace(contract, schema={"type": "object", **schema})
    schema = contract.for_model  # references from the root would lead elsewhere inside the object
    inner = {
        key: value for key, value in schema.items() if key not in ("$defs", "definitions", "$schema", "$id")
    }
    outer: dict[str, Any] = {"type": "object", "properties": {_WRAP: inner}, "required": [_WRAP]}
    outer |= {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}
    return replace(contract, schema=outer, wrapped=True)


def _identifier(name: str) -> str:
    """A tool name every provider accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name.strip())[:60].strip("_") or NAME
