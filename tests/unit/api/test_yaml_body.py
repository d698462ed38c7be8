"""YAML bodies: JSON's kinds of values only, bounds before anything is built, one refusal for each defect."""

from __future__ import annotations

import time

import pytest

from runyard_api.http import yaml_body
from runyard_common.values.errors import InvalidRequest, PayloadTooLarge

GOOD = b"""
name: '@demo/triage'
version: 1.0.0
instructions: |
  Sort it.
  "quoted: text"
tools: [lookup, {name: pay, effect: irreversible}]
temperature: 0.5
functional: true
released: 2026-01-02
note: ~
"""

BAD: dict[str, tuple[bytes, str, str]] = {
    "alias": (b"a: &x 1\nb: *x", "bad_yaml", "aliases are refused"),
    "deep": (b"config: " + b"[" * 5_000, "too_deep", "64 levels"),
    "deep blocks": (b"".join(b" " * n + b"a:\n" for n in range(70)), "too_deep", "64 levels"),
    "many": (b"- {a: b, c: d}\n" * 17_000, "too_many_values", "10,000 values"),
    "twice": (b"name: a\nname: b", "duplicate_field", "Duplicate field 'name'"),
    "number key": (b"config: {1: a}", "bad_yaml", "the key '1' is no text"),
    "list key": (b"? [a]\n: b", "bad_yaml", "is no text"),
    "true key": (b"on: push", "bad_yaml", "the key 'True' is no text: put it in quotes (line 1, column 1)"),
    "infinite": (b"temperature: .inf", "bad_yaml", "inf is no JSON number"),
    "not a number": (b"temperature: .nan", "bad_yaml", "nan is no JSON number"),
    "binary": (b"a: !!binary aGk=", "bad_yaml", "no JSON form"),
    "set": (b"a: !!set {x: null}", "bad_yaml", "no JSON form"),
    "tag": (b"a: !!python/object/apply:os.system [ls]", "bad_yaml", "could not determine a constructor"),
    "large number": (b"a: " + b"9" * 30, "bad_yaml", "Integer exceeds 64-bit range"),
    "endless number": (b"a: " + b"9" * 100_000, "bad_yaml", "100 characters"),
    "half a pair": (rb'a: "\ud800"', "bad_yaml", ""),
    "nul": (rb'a: "\0"', "nul_character", "NUL"),
    "two": (b"a: 1\n---\nb: 2", "bad_yaml", "expected a single document"),
    "broken": (b"a: [1", "bad_yaml", "line"),
    "no text": (b"\xff\xfe\x00", "bad_yaml", ""),
}


def test_a_document_is_read_as_its_json_would_be() -> None:
    assert yaml_body.parse(GOOD) == {
        "name": "@demo/triage",
        "version": "1.0.0",
        "instructions": 'Sort it.\n"quoted: text"\n',
        "tools": ["lookup", {"name": "pay", "effect": "irreversible"}],
        "temperature": 0.5,
        "functional": True,
        "released": "2026-01-02",
        "note": None,
    }


@pytest.mark.parametrize(("raw", "code", "text"), BAD.values(), ids=BAD)
def test_what_json_could_not_say_is_refused_at_once(raw: bytes, code: str, text: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest) as refused:
        yaml_body.parse(raw)
    assert (refused.value.code, text in refused.value.message) == (code, True), refused.value.message
    assert "Traceback" not in refused.value.message
    assert len(refused.value.message) < 400
    assert time.process_time() - began < 1, "bounds are looked at before anything is built"


@pytest.mark.anyio
async def test_a_large_document_is_refused_unread() -> None:
    with pytest.raises(PayloadTooLarge, match="262,144 bytes"):
        await yaml_body.parse(b"a: " + b"x" * yaml_body.MOST_BYTES)


@pytest.mark.parametrize(
    "number",
    ["1:" * 100_000 + "1", "9" * 200_000, "1:" * 100_000 + "1.5", "!!int '" + "1:" * 60 + "1'"],
    ids=["whole, base 60", "whole", "fraction, base 60", "tagged"],
)
def test_a_number_without_end_is_refused_at_once(number: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="100 characters") as refused:
        yaml_body.parse(f"a: {number}".encode())
    assert refused.value.code == "bad_yaml"
    assert time.process_time() - began < 1.0, "it was seconds"


def test_numbers_of_a_sensible_length_are_read_as_ever() -> None:
    assert yaml_body.parse(b"a: 1\nb: 1.5\nc: 0x10\nd: 1e3\ne: 1.0e+3\nf: -7\n") == {
        "a": 1, "b": 1.5, "c": 16, "d": "1e3", "e": 1000.0, "f": -7,
    }  # fmt: skip
