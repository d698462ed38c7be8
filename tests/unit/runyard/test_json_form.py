"""The JSON form: one table of kinds, each refusal with the place of what has no form."""

from __future__ import annotations

import array
import datetime as dt
import enum
import ipaddress
import itertools
import math
import os
import subprocess
import sys
import types
import uuid
from collections import ChainMap, OrderedDict, UserDict, UserString, defaultdict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import AnyUrl, BaseModel, ConfigDict, RootModel, SecretStr
from pydantic.dataclasses import dataclass as pydantic_dataclass

from runyard.json_form import DEEPEST, NotJson, clean, convert, encode, name


class Colour(enum.Enum):
    RED = "red"
    PRICE = Decimal("1.50")


class Level(enum.IntEnum):
    LOW = 1


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    amount: Any
    when: dt.date = dt.date(2026, 1, 2)


class Raw(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    raw: bytes
    number: int = 0
    other: Any = None


class Base64(Raw):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


INTS = array.array("i", [1])


class Root(RootModel[list[Decimal]]):
    pass


@dataclass
class Line:
    amount: Any
    _hidden: int = 1


@pydantic_dataclass
class Checked:
    amount: Decimal


class Point(NamedTuple):
    x: int
    y: Decimal


class Shouting(str):
    def __str__(self) -> str:
        raise RuntimeError("no")


Old = namedtuple("Old", "a b")
UUID = uuid.UUID(int=7)
DAY = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)

FORMS: list[tuple[str, Any, Any]] = [
    ("plain", {"a": [1, 2.5, "x", None, True]}, {"a": [1, 2.5, "x", None, True]}),
    ("decimal", Decimal("19.990"), "19.990"),
    ("large decimal", Decimal("1" * 40 + ".5"), "1" * 40 + ".5"),
    ("datetime", DAY, "2026-01-02T03:04:05.000006+00:00"),
    ("naive datetime", DAY.replace(tzinfo=None), "2026-01-02T03:04:05.000006"),
    ("date", DAY.date(), "2026-01-02"),
    ("time", dt.time(1, 2), "01:02:00"),
    ("time with a zone", dt.time(1, 2, tzinfo=dt.UTC), "01:02:00+00:00"),
    ("timedelta", dt.timedelta(days=1, hours=2), "P1DT2H"),
    ("uuid", UUID, str(UUID)),
    ("enum", [Colour.RED, Colour.PRICE, Level.LOW], ["red", "1.50", 1]),
    ("set of numbers", {10, 9, 1}, [1, 9, 10]),
    ("set of decimals", {Decimal(10), Decimal(9)}, ["9", "10"]),
    ("set of many kinds", {"a", 1, None, (2, 3)}, ["a", 1, [2, 3], None]),
    ("set of sets", {frozenset({2, 1}), frozenset({3})}, [[1, 2], [3]]),
    ("bytes", b"\xff\xfe", "//4="),
    ("bytearray and memoryview", [bytearray(b"a"), memoryview(b"b")], ["YQ==", "Yg=="]),
    ("path", Path("a/b.txt"), "a/b.txt"),
    ("undecodable path", Path(os.fsdecode(b"caf\xe9")), "caf�"),
    ("deque", deque([1, Decimal(2)]), [1, "2"]),
    ("tuple", (1, (2,)), [1, [2]]),
    ("named tuple", [Point(1, Decimal(2)), Old(1, 2)], [[1, "2"], [1, 2]]),
    ("fraction", Fraction(1, 3), "1/3"),
    ("address", [ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8")], ["::1", "10.0.0.0/8"]),
    ("64 bits", [2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
    ("over 64 bits", [2**64, -(2**70)], [str(2**64), str(-(2**70))]),
    ("model", Model(amount=Decimal("1.50")), {"amount": "1.50", "when": "2026-01-02"}),
    ("root model", Root([Decimal("1.5")]), ["1.5"]),
    ("dataclass", Line(Line({1})), {"amount": {"amount": [1], "_hidden": 1}, "_hidden": 1}),
    ("pydantic dataclass", Checked(Decimal("2.0")), {"amount": "2.0"}),
    ("model in a dict", {"m": [Model(amount=Fraction(1, 2))]}, {"m": [{"amount": "1/2", "when": "2026-01-02"}]}),
    ("secret", SecretStr("x"), "**********"),
    ("url", AnyUrl("http://a/b"), "http://a/b"),
    ("mappings", [types.MappingProxyType({"a": 1}), UserDict(b=2)], [{"a": 1}, {"b": 2}]),
    ("more mappings", [ChainMap({"a": 1}), OrderedDict(b=2), defaultdict(int, c=3)], [{"a": 1}, {"b": 2}, {"c": 3}]),
    ("views", [{"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items()], [["a"], [1], [["a", 1]]]),
    ("range and array", [range(3), array.array("i", [1, 2])], [[0, 1, 2], [1, 2]]),
    ("text of its own kind", [Shouting("x"), UserString("y")], ["x", "y"]),
    ("number keys", {1: "a", 2.5: "b", None: "c", False: "d"}, {"1": "a", "2.5": "b", "null": "c", "false": "d"}),
    ("odd keys", {Colour.RED: 1, UUID: 2, DAY.date(): 3}, {"red": 1, str(UUID): 2, "2026-01-02": 3}),
    ("surrogate", "a\ud83db", "a�b"),
    ("surrogate key", {"\ud83d": ["\udc00"]}, {"�": ["�"]}),
    ("surrogate among other kinds", [Decimal(1), "\ud83d"], ["1", "�"]),
    ("whole pair", "😀", "😀"),
    ("nul", "a\0b", "a\0b"),
    ("long integer of a model", Raw(raw=b"\xc3\xa4", number=2**70), {"raw": "ä", "number": str(2**70), "other": None}),
    ("bytes of a model", Base64(raw=b"\xff"), {"raw": "_w==", "number": 0, "other": None}),
    ("bytes beside what no model writes", Raw(raw=b"a", other=INTS), {"raw": "a", "number": 0, "other": [1]}),
    ("its own bytes there", Base64(raw=b"\xff", other=INTS), {"raw": "/w==", "number": 0, "other": [1]}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "form"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
def test_every_kind_has_one_form_alone_and_inside_others(value: Any, form: Any) -> None:
    assert convert(value) == form
    assert convert({"x": [value]}) == {"x": [form]}
    assert convert([value, Decimal(1), 2**70, {3: 4}]) == [form, "1", str(2**70), {"3": 4}]  # the slow way
    assert convert(convert(value)) == form


class _Exits(BaseModel):
    def model_dump(self, **_: Any) -> Any:
        raise SystemExit(3)


class _Broken:
    def __init__(self) -> None:
        self.model_dump = self._raise

    def _raise(self, **_: Any) -> Any:
        raise ValueError("\ud800 no")


class _Looping(dict[str, Any]):
    def items(self) -> Any:
        raise KeyboardInterrupt


def _cycle() -> Any:
    value: dict[str, Any] = {}
    value["a"] = [value]
    return value


def _chain(length: int) -> Any:
    value: Any = ()
    for _ in range(length):
        value = (value,)
    return value


def _doubled(times: int, *members: Any) -> Any:
    value = list(members)
    for _ in range(times):
        value = [value, value]
    return value


#: Every row of the table of docs/agents.md, by its first cell, with values and their forms; `NotJson` for a refusal.
ROWS: dict[str, list[tuple[Any, Any]]] = {
    "`None`, `bool`, `str`, `int`, `float`, `list`, `tuple`, `dict`": [
        ([None, True, "a", 1, 1.5, (2,), {"b": 3}], [None, True, "a", 1, 1.5, [2], {"b": 3}]),
    ],
    "`int` of more than 64 bits": [(2**70, str(2**70))],
    "`float` that is NaN or infinite": [(math.nan, NotJson), (-math.inf, NotJson)],
    "`Decimal`, `Fraction`": [(Decimal("19.90"), "19.90"), (Fraction(1, 3), "1/3")],
    "`datetime`, `date`, `time`, `timedelta`": [
        (DAY, "2026-01-02T03:04:05.000006+00:00"),
        (DAY.date(), "2026-01-02"),
        (dt.time(1, 2), "01:02:00"),
        (dt.timedelta(days=1, seconds=1), "P1DT1S"),
    ],
    "`UUID`, `Path`, IP addresses and networks, URLs of pydantic": [
        (UUID, str(UUID)),
        (Path("a/b"), "a/b"),
        (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (AnyUrl("http://a/b"), "http://a/b"),
    ],
    "`Enum`": [(Colour.RED, "red"), (Colour.PRICE, "1.50")],
    "`bytes`, `bytearray`, `memoryview`": [(b"\xff", "/w=="), (bytearray(b"a"), "YQ=="), (memoryview(b"a"), "YQ==")],
    "`set`, `frozenset`": [({2, 1}, [1, 2]), (frozenset({"b", "a"}), ["a", "b"])],
    "named tuple, `deque`, `range`, views, other sequences": [
        (Point(1, Decimal(2)), [1, "2"]),
        (deque([1]), [1]),
        (range(2), [0, 1]),
        ({"a": 1}.keys(), ["a"]),
        (array.array("i", [1]), [1]),
    ],
    "other mappings; dataclass": [(ChainMap({"a": 1}), {"a": 1}), (Line(1), {"amount": 1, "_hidden": 1})],
    "pydantic model": [(Model(amount=Decimal("1.50")), {"amount": "1.50", "when": "2026-01-02"})],
    "keys: `str`, `int`, `float`, `bool`, `None`, `Enum`, and what has text above": [
        ({"a": 1, 2: 3, 1.5: 4, False: 5, None: 6, Colour.RED: 7, UUID: 8},
         {"a": 1, "2": 3, "1.5": 4, "false": 5, "null": 6, "red": 7, str(UUID): 8}),
        ({1: 1, "1": 2}, NotJson),
    ],
    "half a surrogate pair, in any text or key": [({"\ud83d": "\udc00"}, {"�": "�"})],
    "anything else (functions, classes, iterators, exceptions, own objects)": [
        (one, NotJson) for one in (len, Model, iter([1]), ValueError("x"), object())
    ],
    "nested deeper than 200 levels, or containing itself": [(_chain(201), NotJson), (_cycle(), NotJson)],
}  # fmt: skip


def test_every_row_of_the_page_is_true() -> None:
    page = (Path(__file__).parents[3] / "docs" / "agents.md").read_text()
    table = (
        page.partition("## Values")[2].partition("| Python | JSON |\n| --- | --- |\n")[2].partition("\n\n")[0]
    )
    rows = {line.strip("|").split(" | ")[0].strip() for line in table.splitlines()}
    assert rows - set(ROWS) == {"a number, scalar or array of numpy"}  # which is not installed
    assert set(ROWS) <= rows
    for value, form in itertools.chain.from_iterable(ROWS.values()):
        if form is NotJson:
            with pytest.raises(NotJson):
                convert(value)
        else:
            assert convert(value) == form


REFUSED: list[tuple[str, Any, str, str]] = [
    ("nan", {"lines": [{"amount": math.nan}]}, "$.lines[0].amount", "nan is no JSON number"),
    ("infinity after null", [None, -math.inf], "$[1]", "-inf is no JSON number"),
    ("decimal nan", {"a": Decimal("NaN")}, "$.a", "nan is no JSON number"),
    ("nan in a model", {"m": Model(amount=math.nan)}, "$.m.amount", "nan is no JSON number"),
    ("nan in a dataclass", Line(math.nan), "$.amount", "nan is no JSON number"),
    ("nan in a set", {math.nan}, "$[0]", "nan is no JSON number"),
    ("object", {"odd key": [1, object()]}, '$["odd key"][1]', "object has no JSON form"),
    ("class", Model, "$", "the class Model has no JSON form"),
    ("function", {"f": len}, "$.f", "builtin_function_or_method has no JSON form"),
    ("complex", 1j, "$", "complex has no JSON form"),
    ("iterator", iter(range(3)), "$", "range_iterator has no JSON form"),
    ("exception", [ValueError("x")], "$[0]", "ValueError has no JSON form"),
    ("colliding keys", {"a": {1: "x", "1": "y"}}, "$.a", 'its keys 1 and "1" are the same in JSON'),
    ("keys that collide when repaired", {"\ud800": 1, chr(0xFFFD): 2}, "$", "are the same in JSON"),
    ("tuple key", {(1, 2): 3}, "$", "a key of type tuple"),
    ("nan key", {math.nan: 3}, "$", "nan is no JSON number"),
    ("cycle", _cycle(), "$.a[0]", "contains itself"),
    ("a model that exits", {"m": _Exits()}, "$.m", "_Exits cannot be written: SystemExit: 3"),
    ("a dump that raises", [_Broken()], "$[0]", "_Broken cannot be written: ValueError: � no"),
    ("a mapping that raises", [_Looping(a=object())], "$", "KeyboardInterrupt"),
    ("a million tuples in each other", _chain(1_000_000), "$[0]", "nests deeper than 200"),
    ("one list in itself sixty times over", _doubled(60), "$", "too many members"),
    ("one list in itself many times, and a decimal", _doubled(60, Decimal(1)), "$", "too many members"),
    ("bytes of a model", {"m": [Raw(raw=b"a"), Raw(raw=b"\xff")]}, "$.m[1].raw", "these bytes are no UTF-8"),
    ("bytes in a model", Model(amount=[{"a": b"\xff"}]), "$.amount[0].a", "these bytes are no UTF-8"),
    ("integer of 5000 digits", {"n": 10**5000}, "$.n", "too many digits"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "path", "why"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_has_no_form_is_refused_at_its_place(value: Any, path: str, why: str) -> None:
    with pytest.raises(NotJson) as caught:
        encode(value)
    assert caught.value.path.startswith(path)
    assert why in caught.value.reason
    str(caught.value).encode()


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (v,)])
@pytest.mark.parametrize("leaf", ["x", Decimal(1)])
def test_values_nest_to_one_depth_however_they_are_converted(wrap: Any, leaf: Any) -> None:
    value = leaf
    for _ in range(DEEPEST):
        value = wrap(value)
    assert convert(value)
    with pytest.raises(NotJson, match="deeper than 200"):
        encode(wrap(value))


@pytest.mark.processes
def test_a_set_is_in_the_same_order_in_every_process() -> None:
    members = "{'b', 'a', 1, None, (1, 'x'), frozenset('ab')}"
    code = f"from runyard.json_form import encode; print(encode({members}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


def test_text_for_columns_has_neither_half_pairs_nor_nul() -> None:
    assert clean("plain") == "plain"
    assert clean("\udcff\0") == "�\0"
    assert name("a\0\ud800b") == "a��b"
