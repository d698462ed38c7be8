"""Every success with a JSON body has a schema that names its properties, and so have the items of its lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from runyard_api.documents.openapi import document
from runyard_api.fronts import operations

DOCUMENT: Final = document(operations())
SCHEMAS: Final = DOCUMENT["components"]["schemas"]
#: Names of fields that hold the items of a page or list.
LISTS: Final = ("data", "agents", "apiKeys", "items", "runs", "versions", "schedules", "messages")


def answers() -> Iterator[Any]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    if status.startswith("2") and kind.endswith("json"):
                        yield pytest.param(content["schema"], id=f"{method} {path} {status}")


def unnamed(schema: dict[str, Any], where: str = "body") -> list[str]:
    """The places of a schema that are objects or lists of no known shape."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    for choices in ("anyOf", "oneOf", "allOf"):
        if choices in schema:
            return [place for each in schema[choices] for place in unnamed(each, where)]
    if schema.get("type") == "array":
        return unnamed(schema["items"], f"{where}[]") if "items" in schema else [where]
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema.get("properties", {})
        lists = {name: properties[name] for name in LISTS if properties.get(name, {}).get("type") == "array"}
        inside = [place for name, each in lists.items() for place in unnamed(each, f"{where}.{name}")]
        return inside if properties else [where]
    return [] if "type" in schema else [where]


@pytest.mark.parametrize("schema", list(answers()))
def test_an_answer_has_named_properties(schema: dict[str, Any]) -> None:
    assert unnamed(schema) == []
