"""What an author writes with types, and what the checkers then know."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, TypedDict, assert_type

from pydantic import BaseModel, Field

from runyard import AsyncClient, BlockingContext, ChildFailed, Client, Context, agent, current_step
from runyard.testing import run

TODAY = dt.date(2026, 1, 2)


class Line(BaseModel):
    sku: str
    amount: Decimal


class InvoiceArgs(BaseModel):
    lines: list[Line]
    due: dt.date


class Result(BaseModel):
    total: Decimal
    paid: bool = False


@dataclass
class Rate:
    currency: str
    at: dt.datetime


class Centre(StrEnum):
    NORTH = "north"
    SOUTH = "south"


class Order(TypedDict):
    id: int


def add_up(lines: list[Line], *, fee: Decimal = Decimal(0)) -> Decimal:
    return sum((line.amount for line in lines), fee)


async def rate_of(currency: str, on: dt.date | None = None) -> Rate:
    return Rate(currency, dt.datetime.now(dt.UTC))


async def pay(total: Decimal, *, to: str = "") -> str:
    return f"{to} {total}"


@agent("@typed/invoice", timeout=30)
async def invoice(ctx: Context, args: InvoiceArgs) -> Result:
    total = await ctx.step("total", add_up, args.lines, fee=Decimal(1))
    assert_type(total, Decimal)
    rate = await ctx.step("rate", rate_of, "EUR")
    assert_type(rate, Rate)
    assert_type(await ctx.step("again", rate_of, "EUR", args.due, effect="read"), Rate)
    assert_type(await ctx.step("default", rate_of, "EUR", effect="read"), Rate)
    assert_type(await ctx.step("by name", rate_of, currency="EUR", effect="read"), Rate)
    assert_type(await ctx.step("pay", pay, total, effect="irreversible"), str)
    assert_type(
        await ctx.step("partial", partial(add_up, args.lines, fee=total), effect="irreversible"), Decimal
    )
    assert_type(await ctx.step("count", len, args.lines), int)
    assert_type(await ctx.step("rate of", lambda: {"currency": "EUR"}, returns=Rate), Rate)
    assert_type(await ctx.step("with both", pay, total, to="us", effect="read", returns=Centre), Centre)
    await ctx.on_failure("pay back", pay, total, to="us")
    async with ctx.shield(5):
        ctx.heartbeat(within=30)
    assert_type(await ctx.state.delete("n"), bool)
    assert_type(await ctx.secret("TOKEN"), str)
    assert_type(current_step().idempotency_key, str)
    assert_type(await ctx.ask("Which centre?", schema=Centre), Centre)
    assert_type(await ctx.ask("Which?", options=["a", "b"], returns=Centre), Centre)
    assert_type(await ctx.ask("Which?"), Any)
    assert_type(await ctx.review("post", args, schema=InvoiceArgs), InvoiceArgs)
    return Result(total=total)


@agent("@typed/blocking")
def blocking(ctx: BlockingContext, args: Rate) -> Result:
    total = ctx.step("total", add_up, [], fee=Decimal(1))
    assert_type(total, Decimal)
    assert_type(ctx.step("rate", rate_of, "EUR"), Rate)
    assert_type(ctx.step("pay", pay, total, effect="irreversible"), str)
    assert_type(ctx.step("rate of", dict, returns=Rate), Rate)
    ctx.on_failure("pay back", pay, total, to="us")
    with ctx.shield():
        ctx.heartbeat()
    ctx.state.set("n", 1)
    assert_type(ctx.secret("TOKEN"), str)
    assert_type(ctx.ask("Which centre?", schema=Centre), Centre)
    assert_type(ctx.run(invoice, InvoiceArgs(lines=[], due=TODAY)), Result)
    assert_type(ctx.map(invoice, [InvoiceArgs(lines=[], due=TODAY)], concurrency=2), list[Result])
    assert_type(
        ctx.map("@typed/invoice", [{}], returns=Result, return_exceptions=True), list[Result | ChildFailed]
    )
    assert_type(ctx.start(invoice, InvoiceArgs(lines=[], due=TODAY)), str)
    return Result(total=total)


@agent("@typed/parent", output=Result)
async def parent(ctx: Context, args: Annotated[list[Order], Field(description="The orders.")]) -> Result:
    mine = await ctx.run(invoice, InvoiceArgs(lines=[], due=TODAY), priority=3)
    assert_type(mine, Result)
    assert_type(await ctx.run(blocking, Rate("EUR", dt.datetime.now(dt.UTC)), message="Go"), Result)
    assert_type(await ctx.run("@typed/invoice", {"lines": []}), Any)
    assert_type(await ctx.run("@typed/invoice", {"lines": []}, returns=Result, ttl=60), Result)
    each = [InvoiceArgs(lines=[], due=TODAY)]
    assert_type(await ctx.map(invoice, each, priority=3), list[Result])
    assert_type(await ctx.map(blocking, (), return_exceptions=True), list[Result | ChildFailed])
    assert_type(await ctx.map("@typed/invoice", [{"lines": []}], return_exceptions=True), list[Any])
    assert_type(await ctx.map("@typed/invoice", each, returns=Result), list[Result])
    assert_type(await ctx.map(invoice, each, returns=Rate, return_exceptions=True), list[Rate | ChildFailed])
    assert_type(await ctx.start(blocking, Rate("EUR", dt.datetime.now(dt.UTC)), message="Go"), str)
    assert_type(await ctx.start("@typed/invoice", {"lines": []}, ttl=60), str)
    await gather(ctx)
    return mine


async def gather(ctx: Context) -> None:
    one = InvoiceArgs(lines=[], due=TODAY)
    child, total = await ctx.gather(ctx.run(invoice, one), ctx.step("total", add_up, []))
    assert_type(child, Result)
    assert_type(total, Decimal)
    found, _, rates = await ctx.gather(
        ctx.run(invoice, one), ctx.sleep(1), ctx.map(rated, [1]), return_exceptions=True
    )
    assert_type(found, Result | Exception)
    assert_type(rates, list[Rate] | Exception)
    assert_type(await ctx.gather(*(ctx.run(invoice, one) for _ in range(3))), list[Result])
    calls = [ctx.run(invoice, one)]
    assert_type(await ctx.gather(*calls, return_exceptions=True), list[Result | Exception])
    assert_type(await ctx.gather(ctx.ask("Which?"), ctx.ask("What?")), tuple[Any, Any])
    orders: list[Order] = [Order(id=1)]
    assert_type(await ctx.map(ordered, orders), list[int])
    assert_type(await ctx.run(ordered, Order(id=1)), int)


def gather_functions(ctx: BlockingContext) -> None:
    child, total = ctx.gather(
        lambda: ctx.run(invoice, InvoiceArgs(lines=[], due=TODAY)), lambda: ctx.step("total", add_up, [])
    )
    assert_type(child, Result)
    assert_type(total, Decimal)
    functions = [lambda: ctx.step("total", add_up, [])]
    assert_type(ctx.gather(*functions, return_exceptions=True), list[Decimal | Exception])


@agent("@typed/rated")
async def rated(ctx: Context, args: int) -> Rate:
    return await ctx.step("rate", rate_of, "EUR")


@agent("@typed/ordered")
def ordered(ctx: BlockingContext, args: Order) -> int:
    return args["id"]


@agent("@typed/plain", output={"type": "object"})
async def plain(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    return {"child": await ctx.run(plain, {"n": args["n"]})}


@agent("@typed/fields", output=Result, retries={"agent": {"budget": 2}})
def fields(ctx: BlockingContext, args: Any) -> dict[str, Any]:
    return {"total": 1}


async def callers(client: AsyncClient, waiting: Client, ctx: Context) -> None:
    args = InvoiceArgs(lines=[], due=TODAY)
    done = await client.run("@typed/invoice", args, session_id="s", priority=1, metadata={"order": 1})
    assert_type(done.result(returns=Result), Result)
    assert_type(waiting.run("@typed/invoice", args, wait=False, deadline=60.0).result(), Any)
    assert_type(run(invoice, args, answers=["north"], crash_after=[1, 2]).output, Any)
    assert_type(await invoice(ctx, args), Result)
