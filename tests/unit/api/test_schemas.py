"""JSON Schema checks: paths, bounds, and schemas that would reach out or never end."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_common.schemas import checks
from runyard_common.values.errors import InvalidRequest

LINES = {
    "type": "object",
    "properties": {
        "lines": {"type": "array", "items": {"properties": {"qty": {"type": "integer"}}, "required": ["sku"]}}
    },
}


def test_a_value_that_fits_passes() -> None:
    checks.check({"lines": [{"sku": "a", "qty": 1}]}, LINES)
    checks.check(7, True)


def test_violations_carry_their_json_path_and_keyword() -> None:
    found = checks.violations({"lines": [{"sku": "a", "qty": "x"}, {"qty": 1}]}, LINES, field="args")
    assert [(v.field, v.code) for v in found] == [
        ("args.lines[0].qty", "type"),
        ("args.lines[1].sku", "required"),
    ]


def test_a_refusal_names_the_first_and_lists_the_others() -> None:
    with pytest.raises(InvalidRequest) as refused:
        checks.check({"lines": [{"qty": i} for i in range(50)]}, LINES)
    assert refused.value.field == "args.lines[0].sku"
    assert len(refused.value.details["errors"]) == checks.MOST_SHOWN


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"properties": []},
        {"pattern": "("},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#"},
        {"$ref": "#/$defs/missing"},
        "object",
        None,
        [],
    ],
)
def test_a_schema_that_cannot_be_used_is_distinct_from_a_value_that_does_not_fit(schema: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checks.check({"a": 1}, schema)
    assert refused.value.code == "invalid_schema"


def test_formats_count() -> None:
    with pytest.raises(InvalidRequest):
        checks.check("not a date", {"type": "string", "format": "date-time"})
