"""Values of many types: what is made again from their JSON form is equal to them, live and in every replay."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field

from runyard import json_form, json_types
from runyard_common.schemas import checks


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: Decimal


@dataclass
class Photo:
    made_at: dt.datetime
    content: bytes
    tags: set[str]


class Invoice(BaseModel, extra="forbid"):
    amount: Decimal
    due: dt.date = Field(alias="dueDate")
    lines: list[Decimal] = []

    @computed_field
    def count(self) -> int:
        return len(self.lines)


class Order(TypedDict, total=False):
    at: dt.datetime
    colour: Colour


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
ZONES = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30))])
SMALL = st.integers(-(2**63), 2**63)
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()),
    (bool, st.booleans()),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, TEXT),
    (Decimal, DECIMALS),
    (Fraction, st.fractions()),
    (dt.datetime, st.datetimes(timezones=ZONES)),
    (dt.date, st.dates()),
    (dt.time, st.times(timezones=ZONES)),
    (dt.timedelta, st.timedeltas()),
    (uuid.UUID, st.uuids()),
    (bytes, st.binary()),
    (Path, st.just(Path("a/b.txt"))),
    (ipaddress.IPv4Address, st.ip_addresses(v=4)),
    (ipaddress.IPv6Address, st.ip_addresses(v=6)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (Point, st.builds(Point, SMALL, DECIMALS)),
    (Photo, st.builds(Photo, st.datetimes(), st.binary(), st.sets(TEXT))),
    (Invoice, st.builds(Invoice, amount=DECIMALS, dueDate=st.dates(), lines=st.lists(DECIMALS))),
    (Order, st.fixed_dictionaries({}, optional={"at": st.datetimes(), "colour": st.sampled_from(Colour)})),
    (Any, st.dictionaries(TEXT, st.integers(0, 9))),
]  # fmt: skip
HASHABLE = [
    leaf for leaf in LEAVES if leaf[0] in (int, str, Decimal, dt.date, dt.datetime, uuid.UUID, bytes, Colour)
]
KEYS = [leaf for leaf in HASHABLE if leaf[0] is not bytes] + [(bool, st.booleans())]


def _around(kind: Any, values: st.SearchStrategy[Any]) -> list[tuple[Any, st.SearchStrategy[Any]]]:
    few = st.lists(values, max_size=3)
    return [
        (list[kind], few),
        (deque[kind], few.map(deque)),
        (tuple[kind, ...], few.map(tuple)),
        (tuple[kind, int], st.tuples(values, SMALL)),
        (dict[str, kind], st.dictionaries(TEXT, values, max_size=3)),
        (Optional[kind], values | st.none()),  # noqa: UP045 - of `None` it is `None`
        (Annotated[kind, Field(description="One.")], values),
    ]


def _sets(kind: Any, values: st.SearchStrategy[Any]) -> list[tuple[Any, st.SearchStrategy[Any]]]:
    return [(set[kind], st.sets(values)), (frozenset[kind], st.frozensets(values))]


TYPES = st.recursive(
    st.sampled_from(LEAVES)
    | st.sampled_from(HASHABLE).flatmap(lambda leaf: st.sampled_from(_sets(*leaf)))
    | st.tuples(st.sampled_from(KEYS), st.sampled_from(LEAVES)).map(
        lambda both: (dict[both[0][0], both[1][0]], st.dictionaries(both[0][1], both[1][1], max_size=3))  # type: ignore[misc]
    ),
    lambda inner: inner.flatmap(lambda one: st.sampled_from(_around(*one))),
    max_leaves=3,
)


@given(st.data())
def test_what_is_made_again_from_the_json_form_is_equal(data: st.DataObject) -> None:
    kind, values = data.draw(TYPES)
    value = data.draw(values)
    form = json_form.convert(value)
    typed = json_types.typed(kind)
    if typed is None:
        assert kind is Any
        return
    live = typed.restore(form)
    stored = orjson.loads(orjson.dumps(form))
    assert live == typed.restore(stored) == value
    assert type(live) is type(value)
    assert json_form.convert(live) == form


@given(st.data())
def test_the_json_form_fits_the_schema_of_its_type(data: st.DataObject) -> None:
    kind, values = data.draw(TYPES)
    schema = json_types.schema_of_output(json_types.typed(kind))
    if schema is not None:
        found = checks.violations(json_form.convert(data.draw(values)), schema)
        assert {violation.code for violation in found} <= {
            "format",
            "propertyNames",
            "anyOf",
        }  # that of a date demands a zone


def test_types_that_differ_in_order_alone_are_read_in_their_own() -> None:
    class Refund(BaseModel):
        amount: int

    class Charge(BaseModel):
        amount: int

    def made(kind: Any, value: Any) -> Any:
        return json_types.required(kind).restore(value)

    for _ in range(2):  # looked up and found
        assert (made(bytes | str, "abcd"), made(str | bytes, "abcd")) == (b"i\xb7\x1d", "abcd")
        assert made(list[bytes | str], ["abcd"]) == [b"i\xb7\x1d"]
        assert made(list[str | bytes], ["abcd"]) == ["abcd"]
        assert type(made(Refund | Charge, {"amount": 1})) is Refund
        assert type(made(Charge | Refund, {"amount": 1})) is Charge
        assert made(Literal[1, "a"], 1) == 1
        assert made(Literal[True, "a"], True) is True
