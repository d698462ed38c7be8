"""Schemas for a tiny model: bounded ones keep their meaning, examples satisfy them."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from runyard_launch.localmodel.schemas import LONGEST_STRING, bounded, example

TRIAGE = {
    "type": "object",
    "properties": {
        "category": {"enum": ["billing", "outage"]},
        "title": {"type": "string", "title": "Title", "description": "a property named like an annotation"},
        "steps": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "due": {"type": "string", "format": "date"},
        "score": {"type": "number", "minimum": 0.5, "maximum": 0.9},
        "count": {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 2},
        "who": {"$ref": "#/$defs/Person"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "kinds": {"type": ["null", "boolean"]},
    },
    "required": ["category", "title", "steps", "due", "score", "count", "who", "maybe", "kinds"],
    "additionalProperties": False,
    "$defs": {"Person": {"type": "object", "properties": {"name": {"type": "string", "minLength": 50}}}},
}


@pytest.mark.parametrize(
    "schema",
    [
        TRIAGE,
        {"allOf": [{"required": ["a"]}, {"type": "object", "properties": {"a": {"type": "integer"}}}]},
        {"type": "string", "maxLength": 3},
        {"type": "integer", "maximum": -5},
        {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
        {"oneOf": [{"const": "only this"}, {"type": "integer"}]},
        {"type": "object", "required": ["undeclared"]},
    ],
)
def test_an_example_satisfies_its_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(example(schema, "text"), schema)


def test_an_example_of_a_bounded_schema_satisfies_the_original() -> None:
    jsonschema.validate(example(bounded(TRIAGE), "text"), TRIAGE)


def test_bounded_ends_every_string_and_array() -> None:
    schema = bounded({"type": "array", "items": {"type": "string"}})
    assert schema["maxItems"] > 0
    assert schema["items"]["maxLength"] == LONGEST_STRING


def test_bounded_drops_annotations_but_no_property_named_like_one() -> None:
    schema = bounded(TRIAGE)
    assert schema["properties"]["title"] == {"type": "string", "maxLength": LONGEST_STRING}


def test_bounded_never_asks_for_less_than_the_schema_demands() -> None:
    assert bounded({"type": "string", "minLength": 200})["maxLength"] == 200
    assert bounded({"type": "string", "maxLength": 10})["maxLength"] == 10


def test_bounded_leaves_formats_and_choices_alone() -> None:
    for schema in ({"type": "string", "format": "date"}, {"type": "string", "enum": ["a"]}):
        assert bounded(schema) == schema
