"""Mistakes of authors: each checker reports the marked codes (mypy's, then pyright's) at the marked lines."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from runyard import BlockingContext, Client, Context, agent
from runyard.testing import run


class Args(BaseModel):
    amount: Decimal


class Result(BaseModel):
    total: Decimal


async def add_up(amounts: list[Decimal], fee: Decimal) -> Decimal:
    return sum(amounts, fee)


def plain(text: str) -> int:
    return len(text)


@agent("@mistakes/steps")
async def steps(ctx: Context, args: Args) -> Result:
    await ctx.step("wrong argument", add_up, ["1"], Decimal(1))  # error: call-overload, reportArgumentType
    await ctx.step("missing argument", add_up, [Decimal(1)])  # error: call-overload, reportCallIssue
    await ctx.step("one too many", plain, "a", "b")  # error: call-overload, reportCallIssue
    await ctx.step("unknown name", plain, txt="a")  # error: call-overload, reportCallIssue
    await ctx.step("wrong effect", plain, "a", effect="reed")  # error: arg-type, reportCallIssue
    await ctx.step("wrong argument", plain, 5, effect="read")  # error: arg-type, reportCallIssue
    await ctx.step("called", plain("a"))  # error: call-overload, reportArgumentType
    number: int = await ctx.step("wrong result", add_up, [], Decimal(1))  # error: call-overload, reportAssignmentType
    (await ctx.step("wrong use", plain, "a")).upper()  # error: attr-defined, reportAttributeAccessIssue
    (await ctx.step("wrong use", dict, returns=Result)).totl  # error: attr-defined, reportAttributeAccessIssue
    total: str = await ctx.ask("How much?", schema=Decimal)  # error: arg-type, reportAssignmentType
    return Result(total=Decimal(number) + Decimal(total))


@agent("@mistakes/blocking")
def blocking(ctx: BlockingContext, args: Args) -> Result:
    ctx.step("wrong argument", plain, 5)  # error: call-overload, reportArgumentType
    ctx.step("wrong use", plain, "a").upper()  # error: attr-defined, reportAttributeAccessIssue
    ctx.gather(lambda: ctx.step("plain", plain, "a"), lambda: 5)[0].upper()  # error: attr-defined, reportAttributeAccessIssue
    return ctx.ask("How much?", schema=Decimal)  # error: return-value, reportReturnType


@agent("@mistakes/one")  # error: type-var, reportArgumentType
async def one(ctx: Context) -> None: ...


@agent("@mistakes/three")  # error: type-var, reportArgumentType
def three(ctx: BlockingContext, args: Args, more: int) -> None: ...


@agent("@mistakes/context")  # error: type-var, reportArgumentType
def wrong_context(ctx: Context, args: Args) -> None: ...


@agent("@mistakes/keyword", retires=3)  # error: call-overload, reportCallIssue
async def keyword(ctx: Context, args: Args) -> None: ...


@agent("@mistakes/output", output=Result)  # error: arg-type, reportArgumentType
async def output(ctx: Context, args: Args) -> Args:
    return args


@agent("@mistakes/number", output=Result)  # error: arg-type, reportArgumentType
def number(ctx: BlockingContext, args: Args) -> int:
    return 1


@agent("@mistakes/parent")
async def parent(ctx: Context, args: dict[str, Any]) -> None:
    await ctx.run(steps, {"amount": 1})  # error: arg-type, reportArgumentType
    await ctx.on_failure("undo", steps, ctx)  # error: call-arg, reportCallIssue
    async with ctx.shield("long"):  # error: arg-type, reportArgumentType
        pass
    await ctx.run(steps)  # error: call-overload, reportArgumentType
    await ctx.run(plain, Args(amount=Decimal(1)))  # error: arg-type, reportArgumentType
    await ctx.run("@mistakes/steps", {"amount": 1}, prioritty=3)  # error: call-overload, reportCallIssue
    (await ctx.run(steps, Args(amount=Decimal(1)))).totl  # error: attr-defined, reportAttributeAccessIssue
    (await ctx.run("@mistakes/steps", returns=Result)).totl  # error: attr-defined, reportAttributeAccessIssue
    await ctx.map(steps, [{"amount": 1}])  # error: arg-type, reportArgumentType
    await ctx.map(plain, [Args(amount=Decimal(1))])  # error: arg-type, reportArgumentType
    await ctx.map("@mistakes/steps", [{}], concurency=3)  # error: call-overload, reportCallIssue
    (await ctx.map(steps, [Args(amount=Decimal(1))]))[0].totl  # error: attr-defined, reportAttributeAccessIssue
    both = await ctx.gather(ctx.run(steps, Args(amount=Decimal(1))), ctx.step("plain", plain, "a"))
    both[0].totl  # error: attr-defined, reportAttributeAccessIssue
    both[1].upper()  # error: attr-defined, reportAttributeAccessIssue
    await ctx.gather(ctx.step("plain", plain, "a"), plain)  # error: call-overload, reportArgumentType
    await ctx.start(steps, {"amount": 1})  # error: arg-type, reportArgumentType
    await ctx.start("@mistakes/steps", {"amount": 1}, prioritty=3)  # error: call-overload, reportCallIssue


def callers(client: Client) -> None:
    run(steps, {"amount": 1}, crash_aftr=[1])  # error: call-arg, reportCallIssue
    client.run("@mistakes/steps", {"amount": 1}, sesion_id="a")  # error: call-arg, reportCallIssue
    client.run("@mistakes/steps", {"amount": 1}, priority="high")  # error: arg-type, reportArgumentType
    client.run("@mistakes/steps").result(returns=Result).totl  # error: attr-defined, reportAttributeAccessIssue
