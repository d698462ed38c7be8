"""Examples of requests and answers in the OpenAPI document, composed from the schemas they stand beside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from runyard_api.documents.requests import FORMS, REQUESTS
from runyard_api.documents.values import ANSWERS, LATER, NOW, OBJECT_ID, TASK_ID, VALUES
from runyard_api.http.error_codes import CODES
from runyard_api.http.operations import Described

_REF: Final = "#/components/schemas/"
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
#: Answers that are text, by media type.
_TEXTS: Final = {
    "text/event-stream": 'data: {"type": "run.completed"}\n\n',
    "text/html": "<!doctype html><title>Runyard</title>",
    "text/plain": "runyard_runs_accepted_total 42\n",
    "text/css": "body { margin: 0 }",
    "text/javascript": "export const version = 1;",
    "application/octet-stream": "the bytes of the file",
    "*/*": "the bytes of the file",
}
#: The code that examples of refusals carry, by status.
_CODES: Final = {
    400: "missing_field",
    401: "missing_credentials",
    402: "quota_exceeded",
    403: "missing_permission",
    404: "not_found",
    408: "request_timeout",
    409: "illegal_transition",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "idempotency_conflict",
    429: "rate_limited",
    504: "wait_timeout",
}
#: Schemas within schemas are followed this far.
_DEEPEST: Final = 12


def add(document: dict[str, Any], described: Iterable[Described]) -> None:
    """Put an example beside every schema of a request, a parameter or an answer.

    Refusals share theirs, under components: one for each status and form.
    """
    made = _Examples(document["components"]["schemas"], described)
    refusals: dict[str, Any] = document["components"].setdefault("examples", {})
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                parameter.setdefault("example", made.value(parameter["schema"], parameter["name"]))
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                content["example"] = made.request(operation["operationId"], kind, content["schema"])
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    if int(status) < 400 or kind in _TEXTS:
                        content["example"] = _TEXTS.get(kind) or made.value(content["schema"])
                        continue
                    name = f"{content['schema']['$ref'].removeprefix(_REF)}{status}"
                    refusals[name] = {"value": made.refusal(content["schema"], int(status))}
                    content["examples"] = {"refusal": {"$ref": f"#/components/examples/{name}"}}


class _Examples:
    def __init__(self, schemas: Mapping[str, Any], described: Iterable[Described]) -> None:
        self._schemas = schemas
        self._requests, self._forms = dict(REQUESTS), dict(FORMS)
        for one in described:
            self._requests |= one.examples
            self._forms |= one.forms

    def request(self, operation: str, kind: str, schema: Mapping[str, Any]) -> Any:
        if kind == "multipart/form-data" and operation in self._forms:
            return self._forms[operation]
        name = schema.get("$ref", "").removeprefix(_REF)
        return self._requests[name] if name in self._requests else self.value(schema)

    def refusal(self, schema: Mapping[str, Any], status: int) -> Any:
        """What an operation is refused with: by the first code that every operation may give with the status."""
        code = _CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
        detail = CODES[code][1] if code in CODES else f"{HTTPStatus(status).phrase}."
        own: dict[str, Any] = {
            "type": f"/docs#error-{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "error": detail,
            "code": code,
            "field": "agent" if status == 400 else None,
            "retry_after": 5 if status in (429, 503) else None,
            "retryAfter": 5 if status in (429, 503) else None,
            "errors": None,
        }
        fields = self._schemas[schema["$ref"].removeprefix(_REF)]["properties"]
        made: dict[str, Any] = self.value(schema)
        return made | {
            name: own[name] for name in own if name in made and self._fits(own[name], fields[name])
        }

    def value(self, schema: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
        """A value that fits the schema of a field or parameter of this name."""
        if "$ref" in schema:
            model = schema["$ref"].removeprefix(_REF)
            made = self.value(self._schemas[model], name, depth + 1)
            return made | ANSWERS[model] if model in ANSWERS else made
        for known in VALUES.get(name, ()):
            if self._fits(known, schema):
                return known
        if schema.get("examples"):
            return schema["examples"][0]
        if "const" in schema:
            return schema["const"]
        if "default" in schema and schema["default"] is not None:
            return schema["default"]
        if schema.get("enum"):
            return schema["enum"][0]
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._chosen(schema[key], name, depth)
        return self._of_type(schema, name, depth)

    def _chosen(self, choices: list[dict[str, Any]], name: str, depth: int) -> Any:
        real = [choice for choice in choices if choice.get("type") != "null"]
        if len(real) < len(choices) and (depth > _DEEPEST or _unknown(real[0], name)):
            return None
        return self.value(real[0], name, depth + 1)

    def _of_type(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else None)
        if kind == "object":
            properties = schema.get("properties", {})
            return {field: self.value(inner, field, depth + 1) for field, inner in properties.items()}
        if kind == "array":
            return [self.value(schema.get("items", {}), name, depth + 1)] if depth < _DEEPEST else []
        if kind == "boolean":
            return False
        if kind in ("integer", "number"):
            least = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            return least + 1 if "exclusiveMinimum" in schema else max(least, 1)
        return _text(schema, name) if kind == "string" else None

    def _fits(self, value: Any, schema: Mapping[str, Any]) -> bool:
        """Whether a value is of the schema's type, and one of those it lists."""
        if "$ref" in schema:
            return False
        if "anyOf" in schema:
            return any(self._fits(value, choice) for choice in schema["anyOf"])
        if "const" in schema:
            return bool(value == schema["const"])
        if "enum" in schema:
            return value in schema["enum"]
        if schema.get("format") == "uuid":
            return isinstance(value, str) and len(value) == len(TASK_ID)
        if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
            return False
        if "type" not in schema:
            return value is not None
        if isinstance(value, bool) and schema["type"] != "boolean":
            return False
        if isinstance(value, list) and not self._all_fit(value, schema.get("items", {})):
            return False
        return isinstance(value, _TYPES[schema["type"]]) and "properties" not in schema

    def _all_fit(self, values: list[Any], schema: Mapping[str, Any]) -> bool:
        return all(self._fits(value, schema) for value in values)


def _unknown(schema: Mapping[str, Any], name: str) -> bool:
    """Whether nothing better than the field's own name could stand for its value."""
    plain = not schema.keys() & {"enum", "const", "$ref", "examples"}
    return plain and schema.get("type") == "string" and _text(schema, name) not in (NOW, LATER, OBJECT_ID)


def _text(schema: Mapping[str, Any], name: str) -> str:
    low = name.lower()
    if schema.get("format") == "date-time" or low.endswith(
        ("_at", "_before", "_after", "since", "until", "date")
    ):
        return LATER if low.startswith(("finished", "completed", "ended", "updated")) else NOW
    if name.endswith("At") or low in ("at", "timestamp", "deadline"):
        return NOW
    if schema.get("format") == "uuid" or low.endswith("_id") or name.endswith("Id"):
        return OBJECT_ID
    return low.replace("_", " ") or "text"
