"""JSON that stays text until it is read."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from pydantic_ai.messages import ToolCallPart

from runyard_common.values.json_text import LARGE, JsonText, parsed, read
from runyard_workers.agent.loop.messages import arguments_of
from tests.unit.common.webhooks.test_payloads import task


def test_the_text_is_read_once_and_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    class Counted:
        @staticmethod
        def loads(text: str) -> object:
            reads.append(text)
            return orjson.loads(text)

    monkeypatch.setattr("runyard_common.values.json_text.orjson", Counted)
    stored = JsonText('{"args": {"n": 1}}')
    whole = replace(task(), stored_input=stored)
    assert reads == []
    assert whole.input == {"args": {"n": 1}}
    assert whole.input is whole.input
    assert reads == ['{"args": {"n": 1}}']


def test_what_is_large_is_marked_until_it_has_been_read() -> None:
    small, large = JsonText('"x"'), JsonText('"' + "x" * LARGE + '"')
    assert (small.is_large, large.is_large) == (False, True)
    assert read(large) == "x" * LARGE
    assert not large.is_large


def test_a_value_that_is_no_text_is_itself() -> None:
    assert read({"a": 1}) == {"a": 1}
    assert read(None) is None


@pytest.mark.parametrize("number", [2**64, -(2**70), 2**80 + 1])
def test_an_integer_of_more_than_64_bits_keeps_its_digits(number: int) -> None:
    text = f'{{"n": {number}, "m": [{2**64 - 1}]}}'
    whole = {"n": str(number), "m": [2**64 - 1]}
    assert parsed(text) == parsed(text.encode()) == whole
    assert arguments_of(ToolCallPart("pay", text)) == whole
