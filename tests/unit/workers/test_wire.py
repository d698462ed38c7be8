"""What crosses between an agent's code and its worker, and what does not."""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import pickle
import uuid
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runyard import json_form
from runyard.errors import AgentError
from runyard.json_form import NotJson
from runyard.turns import ModelTurn, ToolResult
from runyard_workers.processes import wire
from runyard_workers.processes.wire import Frames


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Line:
    amount: decimal.Decimal


def crossed(value: Any) -> Any:
    """The value as the other side reads it; functions are their numbers."""
    functions: list[Any] = []

    def refer(fn: Any) -> int:
        functions.append(fn)
        return len(functions)

    text = wire.written(("x", value), refer)
    return wire.read(text, lambda number: f"function {number}")[1]


NOON = datetime.datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
AS_THEY_ARE = [
    None, True, 3, 2**80, "x", b"x", 2.5, [1, (2, 3)], {"a": {1, 2}}, NOON.astimezone(datetime.UTC), NOON.date(),
    datetime.timedelta(seconds=3), decimal.Decimal("1.90"), uuid.UUID(int=3), ..., bytearray(b"x"),
    ModelTurn({"a": 1}, "m", tool_calls=()), ToolResult("x"), datetime.datetime(2026, 7, 1, 12),  # noqa: DTZ001
]  # fmt: skip


@pytest.mark.parametrize("value", AS_THEY_ARE, ids=repr)
def test_a_plain_value_crosses_as_it_is(value: Any) -> None:
    assert crossed(value) == value


def test_other_values_cross_in_their_json_form() -> None:
    value = {"lines": [Line(decimal.Decimal("1.90"))], Colour.RED: Colour.RED}
    assert crossed(value) == {"lines": [{"amount": "1.90"}], "red": "red"}
    assert crossed(NOON) == NOON


def test_a_function_crosses_as_a_reference_and_what_has_no_form_keeps_its_name() -> None:
    assert crossed([len, {"fn": lambda: 1}]) == ["function 1", {"fn": "function 2"}]
    assert crossed(Line) == "function 1"
    with pytest.raises(NotJson, match=r"\$\[0\]: object has no JSON form"):
        json_form.convert(crossed([object()]))


def test_what_is_too_long_or_nests_too_deep_is_refused_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LONGEST", 100)
    with pytest.raises(AgentError, match="may cross") as refused:
        crossed("x" * 200)
    assert refused.value.code == "value_too_large"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(AgentError, match="nests too deep"):
        crossed(deep)


class Hostile:
    def __reduce__(self) -> Any:
        return os.getpid, ()


@pytest.mark.parametrize("value", [Hostile(), Line(decimal.Decimal(1)), os.getpid])
def test_a_worker_makes_nothing_else_of_a_message(value: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="may not contain"):
        wire.read(pickle.dumps(("x", value)), lambda number: None)


@pytest.mark.parametrize("text", [b"", b"\x80", pickle.dumps("x"), pickle.dumps(()), pickle.dumps((1, 2))])
def test_what_is_no_message_is_refused(text: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        wire.read(text, lambda number: None)


def test_frames_are_cut_wherever_the_stream_is() -> None:
    stream = wire.framed(b"first") + wire.framed(b"") + wire.framed(b"second")
    frames = Frames()
    found = [text for at in range(len(stream)) for text in frames.feed(stream[at : at + 1])]
    assert found == [b"first", b"", b"second"]
    with pytest.raises(ValueError, match="a message of"):
        list(Frames(3).feed(wire.framed(b"long")))
