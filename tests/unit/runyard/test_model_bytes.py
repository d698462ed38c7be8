"""Bytes of models of pydantic come back as they were, with any two settings of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from runyard import json_form
from runyard.json_form import NotJson
from runyard.json_types import Typed

ANY_BYTES = (b"abcd", b"\xff\x00\xfe")


class Plain(BaseModel):
    raw: bytes


class Read64(Plain):
    model_config = ConfigDict(val_json_bytes="base64")


class Written64(Plain):
    model_config = ConfigDict(ser_json_bytes="base64")


class Both(Plain):
    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="base64")


class Places(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")

    keys: dict[bytes, int]
    members: set[bytes]
    pair: tuple[bytes, int] | None
    inner: Places | None = None


@dataclasses.dataclass
class Fields:
    raw: bytes


@pydantic.dataclasses.dataclass
class Checked:
    raw: bytes


@pydantic.dataclasses.dataclass(config=ConfigDict(val_json_bytes="hex"))
class CheckedHex:
    raw: bytes


class Dictionary(TypedDict):
    raw: bytes


class Around(BaseModel):
    model_config = ConfigDict(val_json_bytes="hex")

    read: list[Read64]
    written: Written64
    fields: Fields
    checked: Checked
    dictionary: Dictionary


def _places(raw: bytes) -> Places:
    return Places(
        keys={raw: 1}, members={raw}, pair=(raw, 1), inner=Places(keys={}, members=set(), pair=(raw, 2))
    )


def _around(raw: bytes) -> Around:
    parts: dict[str, Any] = {"fields": Fields(raw), "checked": Checked(raw), "dictionary": {"raw": raw}}
    return Around(read=[Read64(raw=raw)], written=Written64(raw=raw), **parts)


VALUES: list[tuple[Any, Callable[[bytes], Any]]] = [
    (Read64, lambda raw: Read64(raw=raw)),
    (Written64, lambda raw: Written64(raw=raw)),
    (Both, lambda raw: Both(raw=raw)),
    (Places, _places),
    (Around, _around),
    (Checked, Checked),
    (CheckedHex, CheckedHex),
    (dict[str, list[Written64]], lambda raw: {"a": [Written64(raw=raw)]}),
]


@pytest.mark.parametrize("raw", ANY_BYTES)
@pytest.mark.parametrize(("kind", "make"), VALUES)
def test_bytes_come_back_as_they_were(kind: Any, make: Callable[[bytes], Any], raw: bytes) -> None:
    value = make(raw)
    form = json_form.convert(value)
    assert (Typed(kind).restore(form), Typed(kind).validate(form)) == (value, value)


@pytest.mark.parametrize(
    ("kind", "form", "named"),
    [
        (Plain, "ab", "binary"),
        (Read64, "YWI=", "base64url"),
        (Written64, "YWI=", "base64url"),
        (Both, "6162", "binary"),
    ],
)
def test_a_model_has_one_form_of_bytes_which_its_schemas_name(kind: Any, form: str, named: str) -> None:
    assert json_form.convert(kind(raw=b"ab")) == {"raw": form}
    schemas = (Typed(kind).input_schema(), Typed(kind).output_schema())
    assert [schema["properties"]["raw"]["format"] for schema in schemas] == [named, named]


class Mixed(BaseModel):
    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    raw: bytes
    plain: Plain


def test_bytes_that_would_come_back_as_others_are_refused() -> None:
    with pytest.raises(NotJson, match="several forms: set ser_json_bytes and val_json_bytes"):
        json_form.convert(Mixed(raw=b"a", plain=Plain(raw=b"\xff")))
