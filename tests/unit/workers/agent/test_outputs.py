"""The output object is found in what a model wrote where there is no doubt about it, and nowhere else."""

from __future__ import annotations

import pytest

from runyard_common.schemas.outputs import from_schema
from runyard_workers.agent.loop.responses import find_output

STATE = {
    "type": "object",
    "required": ["state"],
    "properties": {"state": {"type": "string"}},
    "additionalProperties": False,
}
CONTRACT = from_schema(STATE, field="output")
LIST = from_schema({"type": "array", "items": {"type": "integer"}}, field="output")
OK = {"state": "ok"}


@pytest.mark.parametrize(
    "text",
    [
        '{"state": "ok"}',
        '\ufeff{"state": "ok"}',
        '\u200b\n {"state": "ok"}\n',
        '[{"state": "ok"}]',
        '```json\n{"state": "ok"}\n```',
        'Here is the JSON you asked for:\n\n```json\n{"state": "ok"}\n```\nLet me know!',
        '```\n[{"state": "ok"}]\n```',
        'The answer is {"state": "ok"}, as you wished.',
        'With {braces} around words: {"state": "ok"}',
        'First {"state": 1, "wrong": true}, but in fact {"state": "ok"}.',
        'An example:\n```json\n{"name": "x"}\n```\nand the answer:\n```json\n{"state": "ok"}\n```',
        '{"state": "ok"} and again {"state": "ok"}',
    ],
)
def test_an_object_is_found_with_words_marks_or_a_list_around_it(text: str) -> None:
    assert find_output(text, CONTRACT) == OK


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No object at all.",
        '{"state": "o',
        '{"items": [{"state": "ok"}, {"sta',  # a part of a value that was cut off
        '{items: [{"state": "ok"}]}',  # a part of a broken value
        '{"state": "ok"} or {"state": "bad"}',  # two that fit
        '{"a": 1} or {"b": 2}',  # two that do not
        "[" * 100_000,
        "{" * 100_000,
        '{"a":' * 50_000,
    ],
)
def test_where_there_is_doubt_nothing_is_found(text: str) -> None:
    assert find_output(text, CONTRACT) is None


def test_the_only_object_counts_even_if_it_breaks_the_schema() -> None:
    assert find_output('Here: {"state": 5}', CONTRACT) == {"state": 5}


def test_a_value_that_is_no_object_is_put_under_its_name() -> None:
    assert find_output("```json\n[1, 2]\n```", LIST) == {"result": [1, 2]}
    assert find_output('The list: {"result": [3]}', LIST) == {"result": [3]}


def test_half_a_surrogate_pair_in_an_object_is_replaced() -> None:
    assert find_output('{"state": "\\ud800\\u0000"}', CONTRACT) == {"state": "\ufffd\ufffd"}
