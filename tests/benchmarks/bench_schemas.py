"""Checks against a typical schema of 20 fields: the engine, and the whole check, to the engine used before.

python -m tests.benchmarks.bench_schemas

The figures are ratios of medians: below 1 is faster than before. `jsonschema` is the engine used before.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runyard_common.schemas import checks

pytestmark = pytest.mark.benchmark
_LINE = {
    "type": "object",
    "required": ["sku", "quantity", "price"],
    "properties": {
        "sku": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"},
        "quantity": {"type": "integer", "minimum": 1},
        "price": {"type": "number", "multipleOf": 0.5},
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [f"text{i}" for i in range(8)],
    "properties": {
        **{f"text{i}": {"type": "string", "minLength": 1, "maxLength": 80} for i in range(8)},
        **{f"number{i}": {"type": "number", "minimum": 0} for i in range(4)},
        **{f"choice{i}": {"enum": ["red", "green", "blue"]} for i in range(3)},
        "when": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "format": "email"},
        "pay": {
            "oneOf": [
                {"properties": {"kind": {"const": kind}}, "required": ["kind"]} for kind in ("card", "cash")
            ]
        },
        "flag": {"type": "boolean"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {"line": _LINE},
}
VALUE: dict[str, Any] = {
    **{f"text{i}": "some text" for i in range(8)},
    **{f"number{i}": i + 0.5 for i in range(4)},
    **{f"choice{i}": "green" for i in range(3)},
    "when": "2026-01-31T12:00:00Z",
    "mail": "ada@example.com",
    "pay": {"kind": "cash"},
    "flag": True,
    "lines": [{"sku": "AB1234", "quantity": 2, "price": 9.5}] * 5,
}
WRONG = VALUE | {"text3": 5, "pay": {"kind": "gold"}, "lines": [{"sku": "x", "quantity": 0}]}


def microseconds(fn: Callable[[], Any], times: int = 200, rounds: int = 7) -> float:
    """The median of some rounds, for one call."""
    rounds_us = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(times):
            fn()
        rounds_us.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(rounds_us)


def _ratios() -> dict[str, tuple[float, float]]:
    """By what is done: microseconds now, and before."""
    before = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
    count = iter(range(10**9))

    def fresh() -> dict[str, Any]:
        return SCHEMA | {"title": f"schema {next(count)}"}

    def read_before() -> None:
        schema = fresh()
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).is_valid({})

    return {
        "a value that fits": (
            microseconds(lambda: checks.violations(VALUE, SCHEMA)),
            microseconds(lambda: list(before.iter_errors(VALUE)), 50),
        ),
        "a value with four faults": (
            microseconds(lambda: checks.violations(WRONG, SCHEMA), 50),
            microseconds(lambda: list(before.iter_errors(WRONG)), 50),
        ),
        "a schema read the first time": (
            microseconds(lambda: checks.check_schema(fresh()), 20),
            microseconds(read_before, 5),
        ),
    }


def test_checks_are_faster_than_before() -> None:
    for what, (now, then) in _ratios().items():
        print(f"{what}: {now:.0f} µs, before {then:.0f} µs: ratio {now / then:.2f}")
        assert now < then


if __name__ == "__main__":
    test_checks_are_faster_than_before()
