"""Schemas of MCP tools that a server shapes: what they cost to bring into a model's form has a bound."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runyard_workers.agent.wire.mcp_schemas import MOST_PARTS, Unusable, usable

DEPTH = 24


def doubled(keyword: str) -> dict[str, Any]:
    """References that double with each level, met at the root."""
    last = {f"d{DEPTH}": {"type": "object"}}
    parts = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(DEPTH)}
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": parts | last}


def nested(keyword: str) -> dict[str, Any]:
    """Alternatives in alternatives, without a reference; many, and shallow."""
    return {"type": "object", keyword: [{keyword: [{"type": "object"}] * 40}] * 40}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("made", [doubled, nested])
def test_parts_that_multiply_at_the_root_are_refused_before_they_are_worked_on(
    made: Any, keyword: str
) -> None:
    schema = made(keyword)
    began = time.process_time()
    with pytest.raises(Unusable, match=f"more than {MOST_PARTS} parts"):
        usable(schema)
    one = time.process_time() - began
    began = time.process_time()
    usable({"type": "object", keyword: [{"type": "object", "properties": {"a": {}}}] * (MOST_PARTS // 2)})
    assert one < 20 * (time.process_time() - began) + 0.5


def test_an_ordinary_schema_with_references_at_its_root_is_used() -> None:
    found = usable({
        "allOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
        "$defs": {
            "A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            "B": {"type": "object", "properties": {"b": {"type": "integer"}}},
        },
    })  # fmt: skip
    assert set(found["properties"]) == {"a", "b"}
    assert found["required"] == ["a"]
