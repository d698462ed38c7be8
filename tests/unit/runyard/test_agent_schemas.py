"""The schemas of an agent are those of its annotations, where it is given none."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, TypeVar

import orjson
import pytest
from pydantic import BaseModel, ConfigDict, Field

from runyard import BlockingContext, Context, agent, authoring, json_types
from runyard.authoring import AgentDefinition

if TYPE_CHECKING:
    from runyard import Nowhere


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})


class Order(BaseModel):
    """What is wanted."""

    amount: int = Field(description="How many.", alias="theAmount")


@dataclass
class Photo:
    made_at: dt.date


class Box(TypedDict, total=False):
    photo: Photo


class Colour(enum.Enum):
    RED = "red"


class Own:
    pass


@dataclass
class Odd:
    own: Own


T = TypeVar("T")


def defined(args: Any, result: Any, **options: Any) -> AgentDefinition:
    """An agent with these annotations."""

    async def fn(ctx: Context, args: Any) -> Any:
        """Does it."""

    fn.__annotations__ |= {"args": args, "return": result}
    agent("typed", **options)(fn)
    return authoring.registered()["@default/typed"]


def test_fields_keep_their_names_and_descriptions() -> None:
    schema = defined(Order, Order).manifest["input"]["schema"]
    assert schema["description"] == "What is wanted."
    assert schema["properties"]["theAmount"]["description"] == "How many."
    output = defined(Order, Order).manifest["output"]["schema"]
    assert set(output["properties"]) == {"theAmount"}, "as its input has it"


ARGS: list[tuple[Any, dict[str, Any]]] = [
    (list[Order], {"type": "array"}),
    (Order | Photo, {}),
    (Order | None, {}),
    (Annotated[Order, Field(description="Another.")], {"type": "object", "description": "Another."}),
    (Photo, {"type": "object", "required": ["made_at"]}),
    (Box, {}),
    (list[Box], {"type": "array"}),
    (dict, {"type": "object"}),
    (dict[str, Any], {"type": "object"}),
    (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (Colour, {"enum": ["red"]}),
    (list, {"type": "array"}),
]


@pytest.mark.parametrize(("kind", "part"), ARGS, ids=[str(row[0]) for row in ARGS])
def test_arguments_of_a_type_have_its_schema(kind: Any, part: dict[str, Any]) -> None:
    definition = defined(kind, Any)
    assert definition.input_schema
    assert part.items() <= definition.input_schema.items()
    assert definition.args_type is not None
    assert definition.annotated == {"input", "output"}


@pytest.mark.parametrize(
    "kind",
    [Any, object, None, T, Iterable[Order], Callable[[], int], AsyncIterator[int], type[Order]],
    ids=str,
)
def test_an_annotation_that_leaves_all_open_makes_no_schema(kind: Any) -> None:
    definition = defined(kind, kind)
    assert (definition.input_schema, definition.output_schema) == (None, None)
    assert definition.args_type is None


@pytest.mark.parametrize("kind", [dict, dict[str, Any], Mapping[str, Any]], ids=str)
def test_a_dict_as_a_result_makes_none(kind: Any) -> None:
    assert defined(Any, kind).output_schema is None


@pytest.mark.parametrize(
    ("kind", "schema"),
    [(int, {"type": "integer"}), (list[Decimal], {"type": "array"}), (Photo, {"type": "object"})],
)
def test_a_result_of_a_type_has_its_schema(kind: Any, schema: dict[str, Any]) -> None:
    found = defined(Any, kind).output_schema
    assert found is not None
    assert schema.items() <= found.items()


def test_what_is_given_counts_before_annotations() -> None:
    definition = defined(Order, Order, input={"type": "object"}, output=Photo)
    assert definition.input_schema == {"type": "object"}
    assert definition.args_type is None
    assert definition.output_schema is not None
    assert "made_at" in definition.output_schema["properties"]
    assert definition.annotated == frozenset()


@pytest.mark.parametrize("options", [{"input": Own}, {"output": Own}, {"output": list[Own]}], ids=str)
def test_a_type_without_a_way_from_json_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"(in|out)put: no value of .*Own.* can be made from JSON: "):
        defined(Any, Any, **options)


def test_so_is_one_that_arguments_are_annotated_with() -> None:
    with pytest.raises(TypeError, match=r"input: no value of .*Odd.* can be made from JSON: "):
        defined(Odd, Any)


async def _unknown_result(ctx: Context, args: Any) -> Nowhere: ...
async def _late(ctx: BlockingContext, args: Any) -> None: ...
def _early(ctx: Context, args: Any) -> None: ...


def test_a_result_that_only_type_checkers_know_makes_no_schema() -> None:
    agent("typed")(_unknown_result)
    assert authoring.registered()["@default/typed"].output_schema is None


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (_late, "_late is `async def`, so its context is a Context"),
        (_early, "its context is a BlockingContext"),
    ],
)
def test_a_context_of_the_other_kind_is_refused(fn: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        agent("typed")(fn)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    at: dt.datetime


def test_arguments_are_judged_by_the_rules_of_their_type() -> None:
    typed = json_types.required(Strict)
    assert typed.validate({"at": "2026-01-02T03:04:05Z"}).at.year == 2026
    with pytest.raises(json_types.DoesNotFit, match=r"\$\.more: Extra inputs"):
        typed.validate({"at": "2026-01-02T03:04:05Z", "more": 1})


class Long(BaseModel):
    """Numbers over 64 bits in its schema."""

    number: Annotated[int, Field(ge=0, lt=2**66)]
    fixed: Literal[1, 2**70] = 2**70  # type: ignore[valid-type]  # a checker knows no longer ones
    minimum: int = Field(-(2**80), ge=-(2**80), examples=[2**70, 7])


def test_a_schema_has_no_integer_of_more_than_64_bits() -> None:
    typed = json_types.required(Long)
    for schema in (typed.input_schema(), typed.output_schema()):
        assert json.loads(orjson.dumps(schema))["properties"] == {
            "number": {"title": "Number", "type": "integer", "minimum": 0},
            "fixed": {"title": "Fixed", "type": "integer", "default": str(2**70)},
            "minimum": {
                "title": "Minimum", "type": "integer", "default": str(-(2**80)), "examples": [str(2**70), 7],
            },
        }  # fmt: skip
    with pytest.raises(json_types.DoesNotFit, match=r"\$\.number: Input should be less than"):
        typed.validate({"number": str(2**66)})
