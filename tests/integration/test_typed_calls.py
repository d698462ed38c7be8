"""Types of an author's in every call: values of them live and in every replay, one refusal where they do not fit."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, Field

from runyard import BlockingContext, ChildFailed, Context, agent, authoring
from runyard.testing import Outcome, approve, edit, run

#: A run is made for each of its journal writes.
pytestmark = pytest.mark.timeout(180)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Line(BaseModel):
    amount: Decimal


class Order(BaseModel):
    lines: list[Line]
    due: dt.date = Field(dt.date(2026, 1, 2), description="When it is paid.")


@dataclass
class Photo:
    content: bytes
    tags: set[str]


class Centre(StrEnum):
    NORTH = "north"


class Box(TypedDict, total=False):
    at: dt.datetime


PHOTO = Photo(b"\xff\xfe", {"a", "b"})
BOX: Box = {"at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)}


def photo() -> Photo:
    return PHOTO


def boxes(count: int, *, of: Box) -> list[Box]:
    return [of] * count


async def pair(amount: Decimal) -> tuple[Decimal, Path]:
    return amount, Path("a")


def mapping() -> Mapping[str, Decimal]:
    return {"a": Decimal("1.50")}


class Loader:
    def load(self) -> frozenset[int]:
        return frozenset({1})

    async def __call__(self) -> Line:
        return Line(amount=Decimal("0.10"))


SEEN: list[list[Any]] = []


@agent("@calls/all")
async def _all(ctx: Context, args: Order) -> Any:
    seen: list[Any] = [args]
    SEEN.append(seen)
    seen.append(await ctx.step("photo", photo))
    seen.append(await ctx.step("boxes", boxes, 2, of=BOX))
    seen.append(await ctx.step("pair", pair, Decimal("1.0"), effect="irreversible"))
    seen.append(await ctx.step("method", Loader().load))
    seen.append(await ctx.step("object", Loader()))
    seen.append(await ctx.step("class", Line, amount=Decimal("2.50")))
    seen.append(await ctx.step("partial", partial(boxes, 1, of=BOX), effect="read"))
    seen.append(await ctx.step("untyped", lambda: PHOTO))
    seen.append(await ctx.step("for checkers", mapping))
    seen.append(await ctx.step("named", lambda: PHOTO, returns=Photo))
    seen.append(await ctx.step("union", lambda: [1, "a"], returns=tuple[int, Literal["a"]]))
    seen.append(await ctx.ask("Which?", schema=Centre))
    seen.append(await ctx.ask("Which again?", options=["north"], returns=Centre))
    seen.append(
        await ctx.ask([{"key": "due", "text": "When?", "schema": dt.date}, {"key": "b", "text": "And?"}])
    )
    seen.append(await ctx.review("pay", args, schema=Order))
    seen.append(await ctx.run(_child, Line(amount=Decimal("3.10"))))
    seen.append(await ctx.run("@calls/child", Line(amount=Decimal("3.10")), returns=Photo))
    seen.append(await ctx.map(_child, (Line(amount=Decimal(number)) for number in (1, 2))))
    seen.append(bool(await ctx.start(_child, Line(amount=Decimal(1)))))
    return None


@agent("@calls/child")
def _child(ctx: BlockingContext, args: Line) -> Photo:
    assert isinstance(args, Line)
    assert ctx.step("photo", photo) == PHOTO
    return PHOTO


ORDER = Order(lines=[Line(amount=Decimal("19.90"))])
CHANGED = {"lines": [], "due": "2027-01-01"}
FORM = {"content": "//4=", "tags": ["a", "b"]}
EXPECTED = [
    ORDER, PHOTO, [BOX, BOX], (Decimal("1.0"), Path("a")), frozenset({1}), Line(amount=Decimal("0.10")),
    Line(amount=Decimal("2.50")), [BOX], FORM, {"a": "1.50"}, PHOTO, (1, "a"), Centre.NORTH, Centre.NORTH,
    {"due": dt.date(2026, 5, 6), "b": "yes"}, Order(lines=[], due=dt.date(2027, 1, 1)), PHOTO, PHOTO,
    [PHOTO, PHOTO], True,
]  # fmt: skip


@agent("@calls/own_loop", isolation="thread")
async def _own_loop(ctx: Context, args: Order) -> Any:
    """The same code away from the worker's loop: its calls cross as those of a process do."""
    return await authoring.registered()["@calls/all"].fn(ctx, args)


@pytest.mark.parametrize("called", [_all, _own_loop])
def test_each_call_gives_a_value_of_its_type_live_and_in_every_replay(called: Any) -> None:
    SEEN.clear()
    answers = ["north", "north", "2026-05-06", "yes", edit(CHANGED)]
    outcome = run(called, ORDER, answers=answers, crash_after=[2, 3, 2, 3], timeout=50)
    assert outcome.error is None
    assert SEEN[-1] == EXPECTED
    assert [type(one) for one in SEEN[-1]] == [type(one) for one in EXPECTED]
    assert all(seen == EXPECTED[: len(seen)] for seen in SEEN)
    assert outcome.attempts > 5


def wrong() -> Photo:
    return {"content": 5}  # type: ignore[return-value]


async def _step(ctx: Context, args: Any) -> None:
    await ctx.step("load", wrong)


async def _named(ctx: Context, args: Any) -> None:
    await ctx.step("load", lambda: {"amount": "a"}, returns=Line)


async def _no_type(ctx: Context, args: Any) -> None:
    await ctx.step("load", lambda: 1, returns=Loader)


async def _no_agent(ctx: Context, args: Any) -> None:
    await ctx.run(photo)  # type: ignore[call-overload]


async def _map(ctx: Context, args: Any) -> None:
    await ctx.map(_child, [Line(amount=Decimal(1)), Line(amount=Decimal(2))], returns=Line)


async def _map_no_agent(ctx: Context, args: Any) -> None:
    await ctx.map(photo, [])  # type: ignore[arg-type]


async def _start_no_agent(ctx: Context, args: Any) -> None:
    await ctx.start(photo)  # type: ignore[call-overload]


async def _ask(ctx: Context, args: Any) -> None:
    await ctx.ask("Which?", schema=Loader)


def _output(ctx: BlockingContext, args: Any) -> Order:
    return {"lines": 1}  # type: ignore[return-value]


REFUSED: list[tuple[Any, str, str]] = [
    (_step, "invalid_result", "ctx.step 'load', at $.content: the value is no Photo: Input should be"),
    (_named, "invalid_result", "ctx.step 'load', at $.amount: the value is no Line: Input should be a valid decimal."),
    (_no_type, "invalid_call", "ctx.step 'load', returns: no value of"),
    (_no_agent, "invalid_call", "ctx.run: photo is no agent: decorate it with @agent, or give a name."),
    (_map, "invalid_result", "ctx.map '@calls/child', at $[0].amount: the value is no Line: Field required."),
    (_map_no_agent, "invalid_call", "ctx.map: photo is no agent: decorate it with @agent, or give a name."),
    (_start_no_agent, "invalid_call", "ctx.start: photo is no agent: decorate it with @agent, or give a name."),
    (_ask, "invalid_call", "ctx.ask 'Which?', schema: no value of"),
    (_output, "invalid_output", "The agent's output breaks its schema: output"),
]  # fmt: skip
for _fn, *_ in REFUSED:
    agent(f"@calls/refused{_fn.__name__}")(_fn)


def _away(fn: Any) -> Any:
    """A coroutine function's agent as one that runs away from the worker's loop."""

    @agent(f"@calls/away{fn.__name__}", isolation="thread")
    async def away(ctx: Context, args: Any) -> Any:
        return await fn(ctx, args)

    return away


REFUSED += [(_away(fn), code, text) for fn, code, text in REFUSED if fn is not _output]


@pytest.mark.parametrize(
    ("fn", "code", "text"), REFUSED, ids=[f"{number} {row[0].__name__}" for number, row in enumerate(REFUSED)]
)
def test_a_value_of_another_type_fails_the_run_and_names_its_place(fn: Any, code: str, text: str) -> None:
    error = run(fn, {}).error
    assert error is not None
    assert (error["code"], error["message"][: len(text)]) == (code, text)


DONE: list[int] = []


@agent("@calls/counted", retries=1)
async def _counted(ctx: Context, args: Any) -> None:
    await ctx.step("done", DONE.append, 1)
    await ctx.step("load", wrong)


def test_a_step_whose_result_is_of_another_type_counts_as_done() -> None:
    DONE.clear()
    outcome = run(_counted, {})
    assert outcome.error is not None
    assert len(DONE) == 1
    assert len(outcome.of_type("step")) == 2


def outcome_of(fn: Any, args: Any) -> Outcome:
    return run(fn, args, answers=[approve()])


@agent("@calls/defaults")
async def _defaults(ctx: Context, args: Box) -> str:
    return repr(args)


@agent("@calls/optional")
async def _optional(ctx: Context, args: Order | None) -> str:
    return repr(args)


def test_a_run_without_arguments_has_those_by_default() -> None:
    assert outcome_of(_defaults, None).output == "{}"
    assert outcome_of(_optional, None).output == "None"
    error = outcome_of(_child, None).error
    assert error is not None
    assert error["message"] == "The arguments do not fit @calls/child, at $.amount: Field required"


async def _parent(ctx: Context, args: Any) -> str:
    try:
        await ctx.run(_child, {})  # type: ignore[arg-type]
    except ChildFailed:
        return "failed"
    except Exception as error:  # noqa: BLE001 - its text is the point
        return str(error)
    return "completed"


def test_arguments_of_a_child_are_checked_against_its_schema() -> None:
    agent("@calls/parent")(_parent)
    assert "amount" in run(_parent, {}).output


@agent("@calls/positive")
def _positive(ctx: BlockingContext, args: int) -> Line:
    if args < 0:
        raise ValueError("negative")
    return Line(amount=Decimal(args))


async def _mapped(ctx: Context, args: Any) -> list[Any]:
    found = await ctx.map("@calls/positive", [1, -1, 2], returns=Line, return_exceptions=True)
    return [type(one).__name__ if isinstance(one, ChildFailed) else one.amount for one in found]


agent("@calls/mapped")(_mapped)


@pytest.mark.parametrize("fn", [_mapped, _away(_mapped)])
def test_failures_are_among_the_values_of_mapped_children(fn: Any) -> None:
    outcome = run(fn)
    assert (outcome.error, outcome.output) == (None, ["1", "ChildFailed", "2"])


class Negative(Exception):
    """Of the author's own."""


def _fail() -> Any:
    raise Negative("no")


async def _fail_too() -> Any:
    return _fail()


async def _gathered(ctx: Context, args: Any) -> list[str]:
    one = Line(amount=Decimal(1))
    calls = (ctx.run(_child, one), ctx.map(_child, [one]), ctx.step("photo", photo), _fail_too())
    *found, failure = await ctx.gather(*calls, return_exceptions=True)
    assert found == [PHOTO, [PHOTO], PHOTO]
    return [type(failure).__name__, str(failure)]


agent("@calls/gathered")(_gathered)


@agent("@calls/gathered_in_process", isolation="process")
def _gathered_in_process(ctx: BlockingContext, args: Any) -> list[str]:
    one = Line(amount=Decimal(1))
    calls = (lambda: ctx.run(_child, one), lambda: ctx.map(_child, [one]), photo, _fail)
    *found, failure = ctx.gather(*calls, return_exceptions=True)
    assert found == [PHOTO, [PHOTO], PHOTO]
    return [type(failure).__name__, str(failure)]


@pytest.mark.parametrize("fn", [_gathered, _away(_gathered), _gathered_in_process])
def test_gathered_calls_give_the_values_and_failures_that_they_give_alone(fn: Any) -> None:
    outcome = run(fn, processes=fn is _gathered_in_process)
    assert (outcome.error, outcome.output) == (None, ["Negative", "no"])


class Counted(BaseModel):
    number: int
    raw: bytes = b""


@agent("@calls/double")
async def _double(ctx: Context, args: int) -> int:
    return args * 2


@agent("@calls/long")
async def _long(ctx: Context, args: int) -> Counted:
    doubled = await ctx.step("again", int, await ctx.run(_double, args))
    counted = await ctx.step("counted", lambda: Counted(number=doubled, raw=b"a"), returns=Counted)
    assert counted == Counted(number=args * 2, raw=b"a")
    return counted


@agent("@calls/raw")
async def _raw(ctx: Context, args: Any) -> None:
    await ctx.step("load", lambda: [Counted(number=1, raw=b"\xff")])


def test_integers_of_more_than_64_bits_are_integers_in_every_typed_call() -> None:
    outcome = run(_long, 2**70, crash_after=[2])
    assert (outcome.error, outcome.output) == (None, {"number": str(2**71), "raw": "a"})


@agent("@calls/bounded")
async def _bounded(ctx: Context, args: Annotated[int, Field(ge=0, lt=2**66)]) -> int:
    return args


def test_a_bound_of_more_than_64_bits_is_checked_and_leaves_other_agents_alone() -> None:
    assert [run(_bounded, number).output for number in (3, 2**66 - 1)] == [3, str(2**66 - 1)]
    error = run(_bounded, 2**66).error
    assert error is not None
    assert "less than 73786976294838206464" in error["message"]
    assert run(_double, 2).output == 4


def test_bytes_that_a_model_cannot_write_are_refused_with_their_place() -> None:
    error = run(_raw).error
    assert error is not None
    assert (error["code"], error["details"]["path"]) == ("result_not_json", "$[0].raw")
