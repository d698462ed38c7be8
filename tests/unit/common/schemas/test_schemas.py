"""Values against JSON Schemas: which place is named, and with which text."""

from __future__ import annotations

import pytest

from runyard_common.schemas import checks
from runyard_common.values.errors import InvalidRequest

ORDER = {
    "type": "object",
    "required": ["ticket", "priority", "language"],
    "properties": {
        "ticket": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "object", "required": ["net", "tax"]}},
    },
}


def _violations(value: object) -> list[tuple[str, str]]:
    return [(v.field, v.code) for v in checks.violations(value, ORDER, field="args")]


def test_each_missing_property_is_named_once_by_its_own_path() -> None:
    assert _violations({"ticket": "T-1"}) == [("args.priority", "required"), ("args.language", "required")]
    assert _violations({}) == [(f"args.{name}", "required") for name in ("ticket", "priority", "language")]


def test_missing_properties_of_the_items_of_a_list_are_distinct() -> None:
    value = {"ticket": "T", "priority": "low", "language": "en", "lines": [{"net": 1}, {}]}
    assert _violations(value) == [
        ("args.lines[0].tax", "required"), ("args.lines[1].net", "required"), ("args.lines[1].tax", "required"),
    ]  # fmt: skip


def test_a_refusal_names_the_first_place_and_lists_them_all() -> None:
    with pytest.raises(InvalidRequest) as refused:
        checks.check({"ticket": 5, "priority": "low"}, ORDER)
    assert (refused.value.code, refused.value.field) == ("invalid_input", "args.language")
    assert [e["field"] for e in refused.value.details["errors"]] == ["args.language", "args.ticket"]


def test_a_schema_that_fetches_or_loops_or_is_none_is_refused() -> None:
    for schema in ({"$ref": "http://elsewhere.example/x"}, {"$ref": "#"}, {"type": "nonsense"}, 7):
        with pytest.raises(InvalidRequest) as refused:
            checks.check({"a": 1}, schema)
        assert refused.value.code == "invalid_schema"


LONG = str(2**70)


@pytest.mark.parametrize(
    "schema", [{"type": "integer"}, {"type": "number"}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}]
)
def test_an_integer_of_more_than_64_bits_fits_as_its_text(schema: dict[str, object]) -> None:
    inside = {"type": "object", "properties": {"all": {"type": "array", "items": schema}}}
    assert codes(LONG, schema) == codes({"all": [1, LONG, f"-{LONG}"]}, inside) == []


def test_its_bounds_count_and_other_texts_are_no_numbers() -> None:
    assert codes(LONG, {"type": "integer", "maximum": 10}) == [("$", "type")]
    assert codes(str(2**63), {"type": "integer"}) == codes("5", {"type": "integer"}) == [("$", "type")]
    assert (
        codes(f"0{LONG}", {"type": "integer"}) == codes(f"{LONG}\n", {"type": "integer"}) == [("$", "type")]
    )
    assert codes([LONG, "5"], {"items": {"type": "integer"}}) == [("$[0]", "type"), ("$[1]", "type")]


def codes(value: object, schema: object) -> list[tuple[str, str]]:
    return [(v.field, v.code) for v in checks.violations(value, schema)]


@pytest.mark.parametrize("value", [19.99, 4.02, 1.11, 0.07, 0, -3.5, 1e20, 10**30, 1.5e300])
def test_multiples_are_exact_in_decimals(value: float) -> None:
    assert codes({"price": value}, {"properties": {"price": {"multipleOf": 0.01}}}) == []


@pytest.mark.parametrize(
    ("value", "divisor"), [(19.995, 0.01), (1e-300, 0.01), (1e20, 3), (0.3, 0.2), (7, 1e300)]
)
def test_what_is_no_multiple_is_named(value: float, divisor: float) -> None:
    assert codes(value, {"multipleOf": divisor}) == [("$", "multipleOf")]


TUPLE = {"type": "array", "items": [{"type": "integer"}], "additionalItems": False}


@pytest.mark.parametrize("draft", ["draft-04", "draft-06", "draft-07"])
@pytest.mark.parametrize(
    "address", ["http://json-schema.org/{}/schema#", "https://json-schema.org/{}/schema"]
)
def test_older_drafts_are_judged_by_their_own_rules(draft: str, address: str) -> None:
    schema = {"$schema": address.format(draft), "properties": {"t": TUPLE}}
    assert codes({"t": [1]}, schema) == []
    assert codes({"t": ["x"]}, schema) == [("$.t[0]", "type")]
    assert codes({"t": [1, 2]}, schema) == [("$.t", "additionalItems")]


def test_draft_04_has_exclusive_bounds_as_booleans_and_no_const() -> None:
    draft = {"$schema": "http://json-schema.org/draft-04/schema#"}
    assert codes(5, draft | {"minimum": 5, "exclusiveMinimum": True}) == [("$", "exclusiveMinimum")]
    assert codes(5, draft | {"const": 6}) == []


def test_a_reference_excludes_other_keywords_in_draft_07_only() -> None:
    both = {"$ref": "#/definitions/n", "minimum": 5, "definitions": {"n": {"type": "integer"}}}
    assert codes(1, {"$schema": "http://json-schema.org/draft-07/schema#"} | both) == []
    assert codes(1, both) == [("$", "minimum")]


def test_newer_drafts_differ_in_how_tuples_are_written() -> None:
    prefix = {"prefixItems": [{"type": "integer"}], "items": False}
    assert len(codes([1, 2], prefix)) == 1
    assert len(codes([1, 2], {"$schema": "https://json-schema.org/draft/2020-12/schema"} | prefix)) == 1
    older = {"$schema": "https://json-schema.org/draft/2019-09/schema", "items": [{"type": "integer"}]}
    assert codes(["x"], older) == [("$[0]", "type")]
    with pytest.raises(InvalidRequest, match=r"\$\.items"):
        checks.check_schema({"items": [{"type": "integer"}]})


@pytest.mark.parametrize(
    "name", ["http://json-schema.org/draft-03/schema#", "https://example.com/mine", "draft-07", 7]
)
def test_an_unknown_draft_is_refused_by_its_name(name: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checks.check_schema({"$schema": name, "type": "object"})
    assert refused.value.code == "invalid_schema"
    assert str(name) in refused.value.message
    assert "2020-12" in refused.value.message


def test_a_part_of_another_draft_is_refused_with_its_place() -> None:
    part = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}
    with pytest.raises(InvalidRequest, match=r"\$\.properties\.a"):
        checks.check_schema({"properties": {"a": part}})


def test_references_stay_inside_the_document_by_pointer_anchor_or_identifier() -> None:
    schema = {
        "$id": "https://example.com/order",
        "properties": {
            "a": {"$ref": "#/$defs/n"},
            "b": {"$ref": "#small"},
            "c": {"$ref": "https://example.com/order#/$defs/n"},
            "d": {"$ref": "https://example.com/text"},
        },
        "$defs": {
            "n": {"type": "integer"},
            "s": {"$anchor": "small", "maximum": 5},
            "t": {"$id": "https://example.com/text", "type": "string"},
        },
    }
    assert codes({"a": 1, "b": 2, "c": 3, "d": "x"}, schema) == []
    assert codes({"a": "x"}, schema)
    assert codes({"d": 4}, schema)


@pytest.mark.parametrize(
    "reference",
    ["https://example.com/x.json", "file:///etc/passwd", "other.json#/a", "#/nowhere", "#unknown"],
)
def test_what_lies_outside_is_refused_with_the_place(reference: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checks.check_schema({"properties": {"a": {"items": {"$ref": reference}}}})
    assert refused.value.code == "invalid_schema"
    assert '$.properties.a.items["$ref"]' in refused.value.message
    assert repr(reference) in refused.value.message


def test_parts_that_refer_to_each_other_without_end_are_refused() -> None:
    defs = {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}
    with pytest.raises(InvalidRequest, match="without end"):
        checks.check_schema({"$ref": "#/$defs/a", "$defs": defs})


PAYMENT = {
    "oneOf": [
        {
            "properties": {"kind": {"const": "card"}, "number": {"type": "string"}},
            "required": ["kind", "number"],
        },
        {
            "properties": {"kind": {"const": "cash"}, "till": {"type": "integer"}},
            "required": ["kind", "till"],
        },
    ]
}


def test_of_several_alternatives_the_closest_ones_errors_are_listed() -> None:
    assert codes({"kind": "cash", "till": "x"}, PAYMENT) == [("$.till", "type")]
    assert codes({"kind": "card"}, PAYMENT) == [("$.number", "required")]
    assert codes({"pay": {"kind": "card", "number": 5}}, {"properties": {"pay": PAYMENT}}) == [
        ("$.pay.number", "type")
    ]


def test_alternatives_of_other_kinds_are_all_named() -> None:
    (found,) = checks.violations(True, {"anyOf": [{"type": "string"}, {"type": "null"}]}, field="args")
    assert (found.field, found.code) == ("args", "anyOf")
    assert "a string" in found.message
    assert "null" in found.message


def test_more_than_one_fitting_alternative_is_named() -> None:
    (found,) = checks.violations(5, {"oneOf": [{"type": "integer"}, {"minimum": 1}, {"type": "string"}]})
    assert found.message == "This fits the alternatives 1, 2; exactly one may fit."


def test_errors_inside_recursive_parts_are_found_at_their_place() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}},
    }
    value = {"name": "a", "children": [{"name": "b", "children": [{"name": 7}]}]}
    assert codes(value, node) == [("$.children[0].children[0].name", "type")]


def test_unevaluated_properties_are_named_beside_alternatives() -> None:
    schema = {"anyOf": [{"properties": {"a": {"type": "integer"}}}], "unevaluatedProperties": False}
    assert codes({"a": 1}, schema) == []
    assert codes({"a": 1, "b": 2}, schema) == [("$", "unevaluatedProperties")]


@pytest.mark.parametrize(
    ("schema", "value", "sentence"),
    [
        ({"type": "integer"}, "x", 'Expected an integer, got "x".'),
        ({"type": ["string", "null"]}, 5, "Expected null or a string, got 5."),
        ({"enum": ["red", "blue"]}, "green", 'Expected one of "red", "blue"; got "green".'),
        ({"minLength": 3}, "ab", 'Expected at least 3 characters, got "ab" (2).'),
        ({"maxItems": 1}, [1, 2], "Expected at most 1 item, got [1,2] (2)."),
        ({"minimum": 5}, 4, "Expected at least 5, got 4."),
        ({"format": "date-time"}, "now", 'Expected a date and time such as 2026-01-31T12:00:00Z, got "now".'),
        ({"multipleOf": 0.5}, 0.7, "Expected a multiple of 0.5, got 0.7."),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"x": 1},
            "The schema has no property 'x'; leave it out.",
        ),
        ({"uniqueItems": True}, [1, 1], "Expected items that all differ, but two are the same."),
    ],
)
def test_a_violation_names_the_rule_and_the_value(schema: object, value: object, sentence: str) -> None:
    assert [v.message for v in checks.violations(value, schema)] == [sentence]


@pytest.mark.parametrize("value", [{"a": b"x"}, {1: 2}, {"a": {1, 2}}, {"a\ud800": "b"}])
def test_what_has_no_json_form_is_a_violation(value: object) -> None:
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    assert [v.code for v in checks.violations(value, schema)][:1] in (["not_json"], ["type"])


def test_values_of_many_levels_are_no_crash() -> None:
    value: list[object] = []
    for _ in range(5000):
        value = [value]
    found = checks.violations(value, {"items": {"items": {"type": "string"}}})
    assert [v.code for v in found][:1] in (["type"], ["not_json"])
