"""What code does inside a step is that step's: a later call of the same name is another, after any resume."""

from __future__ import annotations

from typing import Any

import pytest

from runyard import AgentError, BlockingContext, Context, ModelTurn, agent, current_step
from runyard.testing import run

CALLS: list[Any] = []


def charge(number: int) -> int:
    CALLS.append(number)
    return number


@agent("@nested/order")
async def _order(ctx: Context, args: dict[str, Any]) -> Any:
    async def order(number: int) -> Any:
        await ctx.log(f"order {number}")
        charged = await ctx.step("charge", charge, number)
        turn = await ctx.model_turn("ask", lambda: ModelTurn(number, "m"))
        await ctx.state.set("orders", await ctx.state.get("orders", 0) + 1)
        return [charged, turn, await ctx.run("@nested/child", {"n": number})]

    first = await ctx.step("order 1", order, 1)
    await ctx.log("between")
    await ctx.sleep(60)
    second = await ctx.step("order 2", order, 2)
    third = await ctx.step("charge", charge, 3)
    await ctx.log("last")
    return [first, second, third, await ctx.state.get("orders")]


@agent("@nested/own_loop", isolation="thread")
async def _own_loop(ctx: Context, args: dict[str, Any]) -> Any:
    """The same away from the worker's loop."""
    return await _order(ctx, args)


@agent("@nested/plain")
def _plain(ctx: BlockingContext, args: dict[str, Any]) -> Any:
    def order(number: int) -> Any:
        return ctx.step("charge", charge, number)

    first = ctx.step("order 1", order, 1)
    ctx.sleep(60)
    return [first, ctx.step("order 2", order, 2), ctx.step("charge", charge, 3)]


@agent("@nested/child")
async def _child(ctx: Context, args: dict[str, Any]) -> Any:
    return args["n"]


@pytest.mark.parametrize("of", [_order, _own_loop])
@pytest.mark.parametrize("crash", [None, 3, 6, 9])
def test_each_step_does_its_own(of: Any, crash: int | None) -> None:
    CALLS.clear()
    outcome = run(of, {}, crash_after=[crash] if crash else [])
    assert outcome.error is None
    assert outcome.output == [[1, 1, 1], [2, 2, 2], 3, 2]
    assert CALLS == [1, 2, 3]
    logged = [event["message"] for event in outcome.of_type("log")]
    assert [text for text in logged if "order" not in text] == ["between", "last"]
    assert {"order 1", "order 2"} <= set(logged)


def test_so_in_a_plain_function() -> None:
    CALLS.clear()
    assert run(_plain, {}).output == [1, 2, 3]
    assert CALLS == [1, 2, 3]


@agent("@nested/catches")
async def _catches(ctx: Context, args: dict[str, Any]) -> Any:
    def fails_once() -> int:
        CALLS.append("call")
        if len(CALLS) == 1:
            raise AgentError("not yet")
        return 5

    async def outer() -> Any:
        try:
            return await ctx.step("inner", fails_once)
        except AgentError:
            return await ctx.step("inner", fails_once)

    return [await ctx.step("outer", outer), await ctx.step("last", lambda: 1)]


@pytest.mark.parametrize("crash", [1, 2, 3])
def test_a_step_that_is_run_again_need_not_do_all_that_it_did(crash: int) -> None:
    CALLS.clear()
    outcome = run(_catches, {}, crash_after=[crash])
    assert (outcome.error, outcome.output) == (None, [5, 1])


@agent("@nested/keys")
async def _keys(ctx: Context, args: dict[str, Any]) -> Any:
    async def outer() -> str:
        return await ctx.step("charge", lambda: current_step().idempotency_key)

    keys = [await ctx.step("a", outer)]
    if args["sleeps"]:
        await ctx.sleep(60)
    keys += [await ctx.step("b", outer), await ctx.step("charge", lambda: current_step().idempotency_key)]
    return [key.rpartition("-")[2] for key in keys]


def test_keys_of_effects_do_not_depend_on_where_the_run_was_resumed() -> None:
    straight, resumed = (run(_keys, {"sleeps": sleeps}).output for sleeps in (False, True))
    assert straight == resumed
    assert len(set(straight)) == 3
