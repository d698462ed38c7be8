"""Schemas and values that are made to cost: refused by a bound with the place named, or checked in no time."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from runyard_common.schemas import checks, work
from runyard_common.values.errors import InvalidRequest

#: Seconds of CPU that one check, or one schema, may keep everything else in the process waiting. About a tenth on
#: an idle machine.
MOST_SECONDS = 0.5


def refusal(schema: Any) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        checks.check_schema(schema, field="input.schema")
    assert refused.value.field == "input.schema"
    return refused.value.code, refused.value.message


def seconds(schema: Any, value: Any) -> float:
    """CPU for the whole of it: reading the schema, the check, the list of what is wrong. The better of two tries: a
    shared processor's time is not all one's own."""

    def once() -> float:
        began = time.thread_time()
        checks.violations(value, schema)
        return time.thread_time() - began

    return min(once(), once())


def field(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


def doubling(levels: int, keyword: str) -> dict[str, Any]:
    """Definitions that each refer twice to the next."""
    defs: dict[str, Any] = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": defs | {f"d{levels}": {"type": "string"}}}


def tree(kinds: int) -> dict[str, Any]:
    """A recursive schema whose every kind of node has the same two children."""
    node = {"$ref": "#/$defs/node"}
    kind = [
        {"properties": {"left": node, "right": node, "kind": {"const": i}}, "required": ["kind", "left"]}
        for i in range(kinds)
    ]
    return {"$ref": "#/$defs/node", "$defs": {"node": {"anyOf": [{"type": "integer"}, *kind]}}}


def deep(levels: int, leaf: Any) -> Any:
    for level in range(levels):
        leaf = {"kind": level % 10, "left": leaf, "right": 5}
    return leaf


def noughts_and_ones(count: int) -> str:
    return "".join(random.Random(1).choices("01", k=count))


def longest(schema: dict[str, Any]) -> str:
    """The longest text that is still checked."""
    per_byte = checks.bounds_of(schema).work[2]
    return noughts_and_ones(int(work.MOST_WORK / per_byte) - 10)


CHAIN = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(900)} | {"d900": {"type": "string"}},
}
PATTERNS = ["([01]{1,30}1){1,60}x", r"[01]*1[01]{400}x", "(.{0,20}1){0,20}x"]
CHECKED: list[tuple[str, Any, Any]] = [
    ("nested repetitions", field(pattern="^(a+)+$"), {"a": "a" * 40 + "!"}),
    ("nested repetitions over a long text", field(pattern="^(a+)+$"), {"a": "a" * 1_000_000 + "!"}),
    ("unique objects", {"uniqueItems": True}, [{"a": i, "b": [i]} for i in range(4000)]),
    ("two ways at each level", doubling(10, "allOf"), "a"),
    ("properties, each of another name", {"properties": {f"p{i}": {"type": "string"} for i in range(1990)}},
     {f"p{i}": 1 for i in range(1990)}),
    ("a recursive schema, ten ways at each level", tree(10), deep(40, "bad")),
    ("many alternatives for many items",
     {"items": {"anyOf": [{"properties": {"k": {"const": i}}} for i in range(300)]}}, [{"k": -1}] * 70),
    ("the same rule many times", {"items": {"allOf": [{"type": "object"}] * 900}}, [1] * 5),
    ("many required names", {"items": {"required": [f"r{i}" for i in range(1000)]}}, [{"r0": 1}] * 900),
    ("decimals", {"items": {"multipleOf": 0.01}}, [19.99, 4.02, 1.11] * 3500),
    ("huge decimals", {"items": {"multipleOf": 0.01}}, [1.7e300] * 550),
    ("a chain of references", CHAIN, 5),
    ("Unicode tables", {"pattern": r"^\p{L}{1,60}$"}, "é" * 6000),
    *((f"the pattern {p}", {"pattern": p}, longest({"pattern": p})) for p in PATTERNS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "value"), [(s, v) for _, s, v in CHECKED], ids=[name for name, _, _ in CHECKED]
)
def test_what_is_checked_is_checked_in_a_moment(
    schema: Any, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    checks._cache.__init__()  # type: ignore[misc]  # reading the schema is part of the cost
    duration = seconds(schema, value)
    with capsys.disabled():
        print(f" {duration * 1000:.0f} ms", end="")
    assert duration < MOST_SECONDS


TOO_LARGE: list[tuple[str, Any, str]] = [
    ("bytes", {"description": "x" * 70_000}, "70,018 bytes"),
    ("properties", {"properties": {f"p{i}": {} for i in range(3000)}}, "more than 2,000 objects"),
    ("depth", doubling(70, "allOf") | {"not": deep(70, {})}, "nested more than 64 deep"),
    ("doubling references", doubling(22, "allOf"), "references counted each time"),
    ("doubling alternatives", doubling(22, "anyOf"), "references counted each time"),
    ("numbers to choose from", {"enum": list(range(5000))}, "subschemas or options"),
    ("a counted repetition", field(pattern="a{1,100000}"), "$.properties.a.pattern"),
    ("nested counted repetitions", field(pattern="((a{1,100}){1,100}){1,100}"), "$.properties.a.pattern"),
    ("Unicode tables, repeated", field(pattern=r"^\p{L}{1,500}$"), "maxLength"),
    ("patterns", {"allOf": [{"pattern": f"^{i}$"} for i in range(300)]}, "more than 200 different patterns"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "named"), [(s, n) for _, s, n in TOO_LARGE], ids=[name for name, _, _ in TOO_LARGE]
)
def test_a_schema_past_a_bound_is_refused_in_a_moment_and_the_bound_is_named(schema: Any, named: str) -> None:
    began = time.thread_time()
    code, message = refusal(schema)
    assert time.thread_time() - began < MOST_SECONDS
    assert code == "schema_too_large"
    assert named in message


def test_a_longer_pattern_than_five_hundred_characters_is_refused() -> None:
    code, message = refusal(field(pattern="a" * 501))
    assert code == "invalid_schema"
    assert "501 characters, at most 500" in message


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"uniqueItems": True}, [{"a": i} for i in range(60_000)]),
        ({"items": {"allOf": [{"type": "object"}] * 900}}, [{}] * 60_000),
        ({"pattern": PATTERNS[0]}, noughts_and_ones(100_000)),
        ({"items": {"enum": list(range(1500))}}, [-1] * 10_000),
    ],
)
def test_a_value_that_would_take_long_is_refused_unchecked(schema: Any, value: Any) -> None:
    began = time.thread_time()
    found = checks.violations(value, schema, field="args")
    assert time.thread_time() - began < MOST_SECONDS
    assert [(v.field, v.code) for v in found] == [("args", "too_large")]


def test_ordinary_large_values_are_checked() -> None:
    row = {"type": "object", "properties": {f"c{i}": {"type": "string", "maxLength": 40} for i in range(20)}}
    rows = [{f"c{i}": "some text" for i in range(20)}] * 5000
    assert checks.violations(rows, {"type": "array", "items": row}) == []
    wide = {"type": "object", "properties": {f"c{i}": {"type": "number"} for i in range(200)}}
    assert checks.violations([{f"c{i}": i for i in range(200)}] * 500, {"items": wide}) == []
    assert checks.violations({"file": "QUJD" * 2_000_000}, {"properties": {"file": {"type": "string"}}}) == []


def test_the_schemas_of_one_request_are_bounded_together() -> None:
    large = [({"title": f"{i}", "description": "x" * 50_000}, f"steps[{i}]") for i in range(3)]
    with pytest.raises(InvalidRequest) as refused:
        checks.check_schemas(large)
    assert (refused.value.code, refused.value.field) == ("schema_too_large", "steps[2]")
    tables = [({"pattern": rf"^{i}\p{{L}}{{1,60}}$"}, f"steps[{i}]") for i in range(10)]
    with pytest.raises(InvalidRequest) as refused:
        checks.check_schemas(tables)
    assert (refused.value.code, refused.value.field) == ("schema_too_large", "steps[2]")


def test_a_hot_schema_is_read_once() -> None:
    schema = {"title": "hot", **field(pattern=r"^\p{L}{1,50}$")}
    checks.check_schema(schema)
    began = time.thread_time()
    for _ in range(100):
        checks.check({"a": "é"}, dict(schema))
    assert time.thread_time() - began < 0.1


def test_the_cache_is_bounded_by_what_its_schemas_weigh() -> None:
    for i in range(40):
        checks.check_schema({"title": str(i), "description": "x" * 60_000})
    kept = checks._cache._entries.values()
    assert sum(entry.memory for entry in kept) <= checks._cache._MOST_BYTES
