"""Random small schemas and values: the engine agrees with a second one, and costs no more than was weighed."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from runyard_common.schemas import checks
from runyard_common.schemas import work as schema_work
from runyard_common.values.errors import InvalidRequest
from tests.generated import EXAMPLES

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.sampled_from([0.5, 1.5, 2.0]),
    st.text("ab1é", max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "object", "array", "null"])}
    ),
    st.fixed_dictionaries({"enum": st.lists(SCALARS, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"const": VALUES}),
    st.fixed_dictionaries({"minimum": st.integers(-5, 5)}),
    st.fixed_dictionaries({"exclusiveMaximum": st.integers(-5, 5)}),
    st.fixed_dictionaries({"multipleOf": st.sampled_from([1, 2, 0.5])}),
    st.fixed_dictionaries({"minLength": st.integers(0, 3)}),
    st.fixed_dictionaries({"maxLength": st.integers(0, 3)}),
    st.fixed_dictionaries({"pattern": st.sampled_from(["^a+$", "1", "^[ab]{2}$", "é"])}),
    st.fixed_dictionaries({"maxItems": st.integers(0, 2)}),
    st.fixed_dictionaries({"uniqueItems": st.just(value=True)}),
    st.fixed_dictionaries({"required": st.lists(NAMES, max_size=2, unique=True)}),
    st.fixed_dictionaries({"minProperties": st.integers(0, 2)}),
    st.just({"$ref": "#/$defs/n"}),
    st.just({}),
)


def _inner(schema: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    part = schema | st.booleans()
    several = st.lists(part, min_size=1, max_size=3)
    one = [st.fixed_dictionaries({key: part}) for key in ("additionalProperties", "items", "not", "contains")]
    many = [st.fixed_dictionaries({key: several}) for key in ("allOf", "anyOf", "oneOf", "prefixItems")]
    named = [
        st.fixed_dictionaries({key: st.dictionaries(NAMES, part, min_size=1, max_size=3)})
        for key in ("properties", "dependentSchemas", "patternProperties")
    ]
    choice = st.fixed_dictionaries({"if": part, "then": part, "else": part})
    last = [st.fixed_dictionaries({key: part}) for key in ("unevaluatedProperties", "unevaluatedItems")]
    groups = st.one_of(*one, *many, *named, *last, choice)
    return st.lists(groups | schema, min_size=1, max_size=2).map(_joined)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in parts:
        whole |= part
    return whole


SCHEMAS = st.builds(
    lambda root, n: root | {"$defs": {"n": n}},
    st.recursive(LEAVES, _inner, max_leaves=8),
    st.recursive(LEAVES, _inner, max_leaves=5),
)
MANY = settings(
    max_examples=2 * EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def _usable(schema: Any) -> bool:
    try:
        checks.check_schema(schema)
    except InvalidRequest as refused:
        if "without end" not in refused.message:  # nothing else is wrong with these
            raise
        return False
    return True


@MANY
@given(SCHEMAS, VALUES)
@example({"multipleOf": 0.01}, 19)
@example({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 3)
@example(
    {"anyOf": [{"properties": {"a": {"type": "null"}}}], "unevaluatedProperties": False}, {"a": None, "b": 1}
)
def test_the_engine_agrees_with_a_second_one(schema: dict[str, Any], value: Any) -> None:
    assume(_usable(schema))
    found = checks.violations(value, schema)
    assert (not found) == Draft202012Validator(schema).is_valid(value), found
    assert all(v.field.startswith("$") and v.message for v in found)


@MANY
@given(SCHEMAS, VALUES)
def test_the_engine_agrees_in_draft_07(schema: dict[str, Any], value: Any) -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#"} | schema
    assume(_usable(schema))
    assert (not checks.violations(value, schema)) == Draft7Validator(schema).is_valid(value)


@MANY
@given(SCHEMAS, VALUES, st.integers(1, 40), st.sampled_from(["a", "b", None]))
def test_a_check_takes_no_longer_than_was_weighed(
    schema: dict[str, Any], leaf: Any, levels: int, name: str | None
) -> None:
    assume(_usable(schema))

    def outer(inner: Any) -> Any:
        if levels >= 10:  # a long narrow value
            return {name or "c": inner}
        return [inner, inner] if name is None else {name: inner, "b": inner}

    for _ in range(levels):
        leaf = outer(leaf)
    bounds = checks.bounds_of(schema)
    work = schema_work.work_on(leaf, bounds)
    assume(work <= schema_work.MOST_WORK)
    validator = checks._compiled(schema).validator
    began = time.thread_time()
    validator.is_valid(leaf)
    assert time.thread_time() - began < 0.005 + work * 200e-9
