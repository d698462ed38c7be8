"""Agents with a loop of their own: `ctx.model_turn` and `ctx.tool_call` are journaled, priced and limited as declared
agents' turns and calls are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runyard import (
    BlockingContext,
    Context,
    ModelTurn,
    ProviderError,
    Rejected,
    ToolCall,
    ToolResult,
    agent,
)
from runyard.testing import Outcome, approve, edit, redo, reject, run, skip

#: A run is made for each of its journal writes.
pytestmark = pytest.mark.timeout(180)

asked: list[str] = []
done: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    asked.clear()
    done.clear()


def _turn(text: str, *calls: ToolCall, **more: Any) -> ModelTurn:
    asked.append(text)
    more = {"input_tokens": 100, "output_tokens": 10, "cost": 0.01} | more
    return ModelTurn({"text": text}, "a-model", text=text, tool_calls=calls, **more)


@agent("@loops/own")
async def own(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """A loop with two turns and two calls at the same time."""

    async def think() -> ModelTurn:
        return _turn("first", ToolCall("a", "look", {"at": 1}), ToolCall("b", "look", {"at": 2}))

    async def look(arguments: dict[str, Any]) -> int:
        async def inner() -> int:
            done.append(f"inner {arguments['at']}")
            return int(arguments["at"]) * 10

        found = await ctx.step("inner", inner)
        done.append(f"look {arguments['at']}")
        return int(found)

    first = await ctx.model_turn("think", think)
    results = await asyncio.gather(
        *(ctx.tool_call("look", {"at": n}, look, call_id=id_) for n, id_ in ((1, "a"), (2, "b")))
    )
    last = await ctx.model_turn("think", lambda: _turn("last", thinking="Hm."), agent="writer")
    return [first, *results, last]


def _shown(outcome: Outcome, type_: str, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(data.get(name) for name in names) for data in outcome.of_type(type_)]


def test_a_turn_and_its_calls_are_logged_and_counted_as_a_declared_agents_are() -> None:
    outcome = run(own)
    assert outcome.output == [{"text": "first"}, 10, 20, {"text": "last"}]
    assert _shown(outcome, "message", "turn", "agent", "text") == [
        (1, "@loops/own", "first"),
        (2, "writer", "last"),
    ]
    assert _shown(outcome, "thinking", "text") == [("Hm.",)]
    calls = [(1, "a", "look", {"at": 1}), (1, "b", "look", {"at": 2})]
    assert _shown(outcome, "tool_call", "turn", "id", "tool", "arguments") == calls
    results = [(1, "a", "ok", 10), (1, "b", "ok", 20)]
    assert sorted(_shown(outcome, "tool_result", "turn", "id", "outcome", "result")) == results
    assert _shown(outcome, "model_turn", "model", "cost_micros") == [("a-model", 10_000)] * 2
    assert (outcome.usage["input_tokens"], outcome.usage["turns"], outcome.cost) == (200, 2, 0.02)


def _writes(outcome: Outcome) -> int:
    return sum(event.type in ("model_turn", "step", "tool_result") for event in outcome.events)


@pytest.mark.timeout(300)
def test_after_a_crash_at_any_write_no_turn_is_asked_for_and_no_call_made_again() -> None:
    whole = run(own)
    for write in range(1, _writes(whole) + 1):
        asked.clear()
        done.clear()
        outcome = run(own, crash_after=[write])
        assert (outcome.status, outcome.output) == ("completed", whole.output), f"after write {write}"
        assert asked == ["first", "last"], f"after write {write}"
        # What a crash meets in the middle is made again; what has ended is not.
        assert {*done} == {"inner 1", "look 1", "inner 2", "look 2"}
        assert outcome.usage["turns"] == 2


@agent("@loops/spends")
async def spends(ctx: Context, args: dict[str, Any]) -> int:
    """Asks a model so many times."""
    for number in range(args["turns"]):
        await ctx.model_turn("think", lambda number=number: _turn(f"{number}"))  # type: ignore[misc]
    return len(asked)


def test_a_run_that_has_spent_its_budget_waits_for_a_top_up_before_the_next_turn() -> None:
    outcome = run(spends, {"turns": 3}, options={"budget": 0.02}, answers=[approve()])
    assert (outcome.status, asked) == ("completed", ["0", "1", "2"])
    assert outcome.asked[0].startswith("The run has spent $0.020000 of its budget of $0.020000.")
    refused = run(spends, {"turns": 3}, options={"budget": 0.02}, answers=[reject("no more")])
    assert refused.error is not None
    assert (refused.error["code"], refused.error["cause"]) == ("budget_exhausted", "limit")


def test_a_mode_that_a_run_names_limits_its_turns() -> None:
    outcome = run(spends, {"turns": 11}, options={"mode": "flash"})
    assert outcome.error is not None
    assert (outcome.error["code"], len(asked)) == ("turn_limit", 10)
    asked.clear()
    assert run(spends, {"turns": 11}).output == 11


class _Refused(Exception):
    """As the libraries of providers raise them."""

    def __init__(self, status_code: int, code: str = "") -> None:
        super().__init__("no")
        self.status_code, self.body, self.headers = (
            status_code,
            {"error": {"code": code}},
            {"Retry-After": "7"},
        )


@agent("@loops/refused")
async def refused(ctx: Context, args: dict[str, Any]) -> str:
    """Is refused until the third time."""

    async def ask() -> ModelTurn:
        if len(asked) < args["times"]:
            asked.append("refused")
            raise _Refused(args["status"], args.get("code", ""))
        return _turn("at last")

    return str((await ctx.model_turn("ask", ask))["text"])


def test_a_providers_passing_failure_is_tried_again_under_the_provider_budget() -> None:
    outcome = run(refused, {"status": 429, "times": 2})
    assert (outcome.output, outcome.attempts) == ("at last", 3)
    (first, _) = outcome.of_type("retry")
    assert first["error"]["code"] == "model_rate_limited"
    assert first["error"]["cause"] == "provider"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "", "model_key_refused"),
        (400, "", "model_request_rejected"),
        (400, "context_length_exceeded", "model_context_exceeded"),
        (429, "insufficient_quota", "model_quota_exceeded"),
    ],
)
def test_a_providers_final_refusal_fails_the_run_at_once(status: int, code: str, expected: str) -> None:
    outcome = run(refused, {"status": status, "code": code, "times": 99})
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["cause"], outcome.attempts) == (expected, "provider", 1)


@agent("@loops/reviewed")
async def reviewed(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Makes two reviewed calls at the same time."""

    def pay(arguments: dict[str, Any]) -> float:
        done.append(f"pay {arguments['amount']:g}")
        return float(arguments["amount"])

    async def one(amount: int) -> Any:
        try:
            call = ctx.tool_call("pay", {"amount": amount}, pay, call_id=f"c{amount}", review=True)
            return await call
        except Rejected as rejection:
            return rejection.message

    return list(await asyncio.gather(one(1), one(2), one(3)))


@pytest.mark.parametrize("crash", [[], [1], [2], [3]])
def test_reviewed_calls_are_asked_for_together_and_made_as_decided(crash: list[int]) -> None:
    answers = [approve(), edit({"amount": 20}), reject("too dear")]
    outcome = run(reviewed, answers=answers, crash_after=crash)
    assert outcome.output == [1.0, 20.0, "A person rejected this call: too dear"]
    assert len(outcome.asked) == 3
    assert {*done} == {"pay 1", "pay 20"}
    assert len(done) <= 2 + len(crash)  # a crash may meet one in the middle of the other
    assert sorted(_shown(outcome, "tool_result", "id", "outcome")) == [
        ("c1", "ok"),
        ("c2", "ok"),
        ("c3", "rejected"),
    ]
    assert len(outcome.of_type("review")[0]["asked"]) == 3


@agent("@loops/once")
async def once(ctx: Context, args: dict[str, Any]) -> Any:
    """Makes a call that may not be made twice."""

    def charge(_: Any) -> str:
        done.append("charge")
        return "charged"

    return await ctx.tool_call("charge", {"amount": 5}, charge, call_id="x", effect="irreversible")


def test_a_crash_in_an_irreversible_call_asks_an_operator() -> None:
    assert run(once, crash_after=[1], answers=[skip("charged by hand")]).output == "charged by hand"
    assert done == []
    assert run(once, crash_after=[1], answers=[redo()]).output == "charged"
    assert done == ["charge"]


@agent("@loops/fails")
async def fails(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Goes on after a tool that fails, in each of the ways."""

    async def look(_: Any) -> Any:
        done.append("look")
        raise LookupError("nothing there")

    found: list[Any] = []
    try:
        await ctx.tool_call("look", {}, look, call_id="1")
    except LookupError as error:
        found.append(str(error))
    result = ToolResult("broken", "failed")
    found.append(await ctx.tool_call("look", {}, lambda _: result, call_id="2"))
    found.append(await ctx.step("last", list))
    return found


@pytest.mark.parametrize("crash", [[], [1], [2], [3]])
def test_a_failed_call_fails_again_on_a_replay_without_being_made(crash: list[int]) -> None:
    outcome = run(fails, crash_after=crash)
    assert outcome.output == ["nothing there", "broken", []]
    assert done == ["look"]
    assert _shown(outcome, "tool_result", "outcome") == [("failed",)] * 2


@agent("@loops/blocking")
def blocking(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    """The same from a thread."""
    first = ctx.model_turn("think", lambda: _turn("hello"))
    return [first, ctx.tool_call("look", {"at": 1}, lambda arguments: arguments["at"], call_id="a")]


def test_a_plain_function_has_the_same_calls() -> None:
    outcome = run(blocking, crash_after=[1, 1])
    assert outcome.output == [{"text": "hello"}, 1]
    assert asked == ["hello"]


@agent("@loops/wrong")
async def wrong(ctx: Context, args: dict[str, Any]) -> Any:
    """Returns no turn."""
    return await ctx.model_turn("think", lambda: "text")  # type: ignore[arg-type, return-value]


def test_what_is_no_turn_is_refused_by_name() -> None:
    outcome = run(wrong)
    assert outcome.error is not None
    assert outcome.error["message"] == (
        "ctx.model_turn 'think': the function must return a ModelTurn, not str."
    )


@agent("@loops/outage")
async def outage(ctx: Context, args: dict[str, Any]) -> Any:
    """Meets an outage that it knows itself."""

    async def ask() -> ModelTurn:
        raise ProviderError("closed on Sundays", code="closed")

    return await ctx.model_turn("think", ask)


def test_a_provider_error_of_the_authors_own_stays_what_it_is() -> None:
    error = run(outage).error
    assert error is not None
    assert (error["code"], error["cause"]) == ("closed", "provider")


@agent("@loops/asks")
async def asks(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Asks within two calls that are made at the same time, beside one that takes its time."""

    async def ask(what: str) -> Any:
        return await ctx.ask(f"Which {what}?")

    async def slow(_: Any) -> str:
        await asyncio.sleep(0.2)
        done.append("slow")
        return "done"

    made = [ctx.tool_call("ask", what, ask, call_id=what) for what in ("colour", "size")]
    return list(await asyncio.gather(*made, ctx.tool_call("slow", {}, slow, call_id="slow")))


def test_calls_that_ask_are_asked_together_once_the_others_have_ended() -> None:
    outcome = run(asks, answers={"Which colour?": "red", "Which size?": "large"}, timeout=20)
    assert (outcome.output, done) == (["red", "large", "done"], ["slow"]), outcome.error
    (together,) = outcome.of_type("ask")
    assert len(together["asked"]) == 2
