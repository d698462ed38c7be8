"""Values against JSON Schemas: which place is named, and what is told of it."""

from __future__ import annotations

import pytest

from common.domain import schemas
from common.domain.errors import InvalidRequest

ORDER = {
    "type": "object",
    "required": ["ticket", "priority", "language"],
    "properties": {
        "ticket": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "object", "required": ["net", "tax"]}},
    },
}


def _told(value: object) -> list[tuple[str, str]]:
    return [(v.field, v.code) for v in schemas.violations(value, ORDER, field="args")]


def test_each_missing_property_is_named_once_by_its_own_path() -> None:
    assert _told({"ticket": "T-1"}) == [("args.priority", "required"), ("args.language", "required")]
    assert _told({}) == [(f"args.{name}", "required") for name in ("ticket", "priority", "language")]


def test_missing_properties_of_the_items_of_a_list_are_told_apart() -> None:
    value = {"ticket": "T", "priority": "low", "language": "en", "lines": [{"net": 1}, {}]}
    assert _told(value) == [
        ("args.lines[0].tax", "required"), ("args.lines[1].net", "required"), ("args.lines[1].tax", "required"),
    ]  # fmt: skip


def test_a_refusal_names_the_first_place_and_lists_them_all() -> None:
    with pytest.raises(InvalidRequest) as refused:
        schemas.check({"ticket": 5, "priority": "low"}, ORDER)
    assert (refused.value.code, refused.value.field) == ("invalid_input", "args.language")
    assert [e["field"] for e in refused.value.details["errors"]] == ["args.language", "args.ticket"]


def test_a_schema_that_fetches_or_loops_or_is_none_is_refused() -> None:
    for schema in ({"$ref": "http://elsewhere.example/x"}, {"$ref": "#"}, {"type": "nonsense"}, 7):
        with pytest.raises(InvalidRequest) as refused:
            schemas.check({"a": 1}, schema)
        assert refused.value.code == "invalid_schema"
