"""Code that catches the failure of a step or a turn and goes on: a resumed attempt meets the same failure again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runyard import AgentError, BlockingContext, Context, ModelTurn, agent
from runyard.testing import run
from runyard_common.runs.rules.journal import CONCURRENT, INSIDE, Placed, caught

CALLS: list[str] = []


def _fails_once(error: Exception, then: Callable[[int], Any]) -> Callable[[], Any]:
    def work() -> Any:
        CALLS.append("work")
        if len(CALLS) == 1:
            raise error
        return then(len(CALLS))

    return work


def _turn(number: int) -> ModelTurn:
    return ModelTurn({"asked": number}, "m")


async def _step(ctx: Context) -> Any:
    work = _fails_once(AgentError("not yet", code="not_yet"), lambda number: {"asked": number})
    try:
        return await ctx.step("ask", work)
    except AgentError as error:
        return {**await ctx.step("ask", work), "after": [error.code, str(error)]}


async def _model(ctx: Context) -> Any:
    work = _fails_once(ValueError("no answer"), _turn)
    try:
        return await ctx.model_turn("ask", work)
    except ValueError:
        return await ctx.model_turn("ask", work)


@agent("@caught/goes_on", retries=1)
async def _goes_on(ctx: Context, args: dict[str, Any]) -> Any:
    got = await {"step": _step, "model": _model}[args["of"]](ctx)
    if args.get("fails") and ctx.task.attempt == 1:
        raise KeyError("later")
    return [got, await ctx.ask("And?"), await ctx.step("last", str, 5)]


@pytest.mark.parametrize("of", ["step", "model"])
@pytest.mark.parametrize("crash", [None, *range(1, 7)])
def test_what_failed_and_was_caught_is_not_done_again_after_a_crash(of: str, crash: int | None) -> None:
    CALLS.clear()
    outcome = run(_goes_on, {"of": of}, crash_after=[crash] if crash else [], answers=["yes"])
    got = {"asked": 2, "after": ["not_yet", "not yet"]} if of == "step" else {"asked": 2}
    assert (outcome.error, outcome.output) == (None, [got, "yes", "5"])
    assert len(CALLS) == 2


@pytest.mark.parametrize("of", ["step", "model"])
def test_nor_where_the_run_fails_later_and_is_tried_again(of: str) -> None:
    CALLS.clear()
    outcome = run(_goes_on, {"of": of, "fails": True}, answers=["yes"])
    assert (outcome.error, outcome.attempts, len(CALLS)) == (None, 3, 2)


@agent("@caught/ends", retries=1)
async def _ends(ctx: Context, args: dict[str, Any]) -> Any:
    try:
        return await ctx.step("ask", _fails_once(AgentError("not yet"), str))
    except AgentError:
        await ctx.log("it failed")
        raise


def test_a_failure_that_ends_the_attempt_is_tried_again_although_the_code_looked_at_it() -> None:
    CALLS.clear()
    outcome = run(_ends, {})
    assert (outcome.error, outcome.output, outcome.attempts) == (None, "2", 2)


def test_what_came_after_a_failure_shows_that_it_was_caught() -> None:
    failed, later = Placed("t", "a#1", 1, None, "failed"), Placed("t", "b#1", 2, None, "done")
    inner = later._replace(detail={INSIDE: "a#1"})
    innermost = Placed("t", "c#1", 3, {INSIDE: "b#1"}, "done")
    assert caught([failed, later]) == [("t", "a#1")]
    assert caught([failed, inner, innermost]) == []
    assert caught([failed._replace(pos=3), later]) == []
    assert caught([failed._replace(detail={CONCURRENT: True}), later]) == []
    assert caught([failed, later._replace(detail={CONCURRENT: True})]) == []
    assert caught([failed, later._replace(task_id="other")]) == []


DID: list[str] = []


def _fails(times: int, name: str) -> str:
    DID.append(name)
    if DID.count(name) <= times:
        raise ValueError(f"no {name}")
    return name


async def _cleans_up(ctx: Context, args: dict[str, Any]) -> Any:
    try:
        return await ctx.step("build", _fails, args["build"], "build")
    except ValueError as error:
        await ctx.step(
            "remove", _fails, args.get("remove", 0), "remove", effect=args.get("effect", "idempotent")
        )
        if args.get("translates"):
            raise RuntimeError("not built") from error
        raise
    finally:
        if args.get("leaves"):
            await ctx.step("leave", _fails, 0, "leave")


def _cleans_up_in_a_thread(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    try:
        return ctx.step("build", _fails, args["build"], "build")
    except ValueError as error:
        ctx.step("remove", _fails, args.get("remove", 0), "remove", effect=args.get("effect", "idempotent"))
        if args.get("translates"):
            raise RuntimeError("not built") from error
        raise
    finally:
        if args.get("leaves"):
            ctx.step("leave", _fails, 0, "leave")


for _fn in (_cleans_up, _cleans_up_in_a_thread):
    agent(f"@caught/{_fn.__name__[1:]}", retries=5)(_fn)
CLEANED = ["build", "remove", "leave"]


@pytest.mark.parametrize("fn", [_cleans_up, _cleans_up_in_a_thread])
@pytest.mark.parametrize(
    ("args", "did"),
    [
        ({"build": 2, "leaves": True}, [*CLEANED, *CLEANED, "build", "leave"]),
        ({"build": 1, "translates": True}, ["build", "remove", "build"]),
        ({"build": 1, "remove": 1}, ["build", "remove", "build"]),
        ({"build": 1, "remove": 1, "leaves": True}, [*CLEANED, "build", "leave"]),
    ],
)
def test_a_failure_that_ends_the_attempt_is_tried_again_with_its_clean_up(
    fn: Any, args: dict[str, Any], did: list[str]
) -> None:
    DID.clear()
    outcome = run(fn, args)
    assert (outcome.error, outcome.output, DID) == (None, "build", did)


@pytest.mark.parametrize("fn", [_cleans_up, _cleans_up_in_a_thread])
def test_a_failure_stays_on_record_whose_clean_up_must_not_be_repeated(fn: Any) -> None:
    DID.clear()
    outcome = run(fn, {"build": 1, "effect": "irreversible"})
    assert (outcome.status, DID) == ("failed", ["build", "remove"])
