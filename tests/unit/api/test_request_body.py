"""Bodies: bounds, strictness, and paths that show the place of a defect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from starlette.datastructures import Headers
from starlette.types import Message

from runyard_api.http import request_body
from runyard_api.http.errors import RequestTimeout
from runyard_common.runs.rules.run_request import RunRequest, Strict
from runyard_common.values.errors import InvalidRequest, RunyardError
from tests.generated import EXAMPLES

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


def status_of(work: Callable[[], object]) -> int | None:
    """The status of the refusal that `work` ends in, if it does."""
    try:
        work()
    except RunyardError as refusal:
        return refusal.status
    return None


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(JSON)
def test_every_sound_document_is_read_as_it_was_written(value: Any) -> None:
    assert request_body.parse(json.dumps(value).encode()) == value
    assert request_body.parse(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(max_examples=3 * EXAMPLES, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_garbage_is_a_refusal_never_another_error(raw: bytes) -> None:
    assert status_of(lambda: request_body.parse(raw)) in (None, 400)


@settings(deadline=None)
@given(JSON)
def test_any_document_makes_a_run_request_or_a_refusal(value: Any) -> None:
    for document in (value, {"args": value}, {"query": value}, {"mcp_servers": value}, {"schedules": value}):
        assert status_of(partial(request_body.model, RunRequest, document)) in (None, 400)


def code_of(raw: bytes) -> str:
    with pytest.raises(RunyardError) as refused:
        request_body.parse(raw)
    return refused.value.code


def test_depth_is_counted_in_structure_not_in_text() -> None:
    deepest = request_body.DEEPEST
    assert request_body.parse(b"[" * deepest + b"]" * deepest)
    assert code_of(b"[" * (deepest + 1) + b"]" * (deepest + 1)) == "too_deep"
    flat = json.dumps(["[" * 500, *({"a": i} for i in range(500))]).encode()
    assert len(request_body.parse(flat)) == 501


def test_values_are_counted_in_structure_not_in_commas() -> None:
    assert request_body.parse(json.dumps("," * 300_000).encode())
    assert code_of(b"[" + b"1," * request_body.MOST_VALUES + b"1]") == "too_many_values"


@pytest.mark.parametrize("number", [2**64, 2**80 + 1, -(2**63) - 1, 10**30])
def test_an_integer_of_more_than_64_bits_keeps_its_digits_as_text(number: int) -> None:
    text = str(number)
    assert request_body.parse(text.encode()) == text
    assert request_body.parse(b'{"a":[1,%d],"b": %d}' % (number, number)) == {"a": [1, text], "b": text}


@pytest.mark.parametrize("text", ["1e30", "1180591620717411303424.0", "0.1234567890123456789", "-2.5e+20"])
def test_a_number_with_a_fraction_or_an_exponent_is_a_float(text: str) -> None:
    found = request_body.parse(f'{{"a": {text}, "b": {2**80}}}'.encode())["a"]
    assert (type(found), found) == (float, float(text))


def test_long_digits_within_64_bits_or_in_a_text_are_what_they_were() -> None:
    value = {"a": 2**64 - 1, "b": [-(2**63), "x, 12345678901234567890123"], "c": "1" * 400, "d": -0.0}
    assert request_body.parse(json.dumps(value).encode()) == value


def test_an_integer_that_no_float_holds_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        request_body.parse(b"1" * 400)
    assert refused.value.code == "bad_json"


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert request_body.parse(rb'{"path": "C:\\u0000"}') == {"path": "C:\\u0000"}
    assert code_of(rb'{"path": "\u0000"}') == "nul_character"
    assert code_of(rb'{"path": "\\\u0000"}') == "nul_character"
    assert code_of(rb'{"\u0000": 1}') == "nul_character"


def test_duplicates_are_found_at_any_depth_and_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        request_body.parse(b'{"a": [{"b": {"c": 1, "c": 2}}], "d": 1}')
    assert (refused.value.code, refused.value.field) == ("duplicate_field", "c")
    assert request_body.parse(b'[{"a": 1}, {"a": 2}]') == [{"a": 1}, {"a": 2}]


class Inner(Strict):
    """Inside."""

    size: int = Field(alias="innerSize", ge=1)


class Outer(Strict):
    """Outside."""

    parts: list[Inner] = Field(default_factory=list)
    either: str | float | None = None


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ({"parts": [{"innerSize": 1}, {"innerSize": 0}]}, "invalid_field", "parts[1].innerSize"),
        ({"parts": [{}]}, "missing_field", "parts[0].innerSize"),
        ({"parts": [{"innerSize": 1, "x": 2}]}, "unknown_field", "parts[0].x"),
        ({"parts": {}}, "invalid_field", "parts"),
        ({"either": []}, "invalid_field", "either"),
        ({"prats": []}, "unknown_field", "prats"),
        ([], "not_an_object", None),
        (None, "not_an_object", None),
    ],
)
def test_a_defect_is_named_by_its_path(document: Any, code: str, field: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        request_body.model(Outer, document)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_a_name_that_is_nearly_known_is_guessed() -> None:
    with pytest.raises(InvalidRequest, match="Did you mean 'parts'"):
        request_body.model(Outer, {"prats": []})
    with pytest.raises(InvalidRequest, match="Known fields: either, parts"):
        request_body.model(Outer, {"zzz": []})


@pytest.mark.parametrize(
    "given_type", ["application/json", "application/problem+json", "application/json; charset=UTF-8"]
)
def test_json_types_are_read(given_type: str) -> None:
    request_body.check_json_type(Headers({"content-type": given_type}))


@pytest.mark.parametrize(
    "given_type", ["", "text/json", "application/jsonx", "image/svg+json", "application/json; charset=utf-16"]
)
def test_other_types_are_not(given_type: str) -> None:
    with pytest.raises(RunyardError) as refused:
        request_body.check_json_type(Headers({"content-type": given_type}))
    assert refused.value.status == 415


def test_a_body_that_trickles_is_given_up_though_it_never_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "PATIENCE", 0.2)

    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def read() -> None:
        async with asyncio.timeout(50):
            await request_body.read(receive, Headers({}), 1_000_000)

    with pytest.raises(RequestTimeout):
        asyncio.run(read())


def test_a_body_that_comes_slowly_but_steadily_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "PATIENCE", 0.2)
    left = 20

    async def receive() -> Message:
        nonlocal left
        left -= 1
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x" * 1_000, "more_body": left > 0}

    assert len(asyncio.run(request_body.read(receive, Headers({}), 1_000_000))) == 20_000
