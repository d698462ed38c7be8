"""Agents that wait, in processes of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runyard import BlockingContext, Context, agent


@agent("@process/tenfold")
async def tenfold(ctx: Context, args: dict[str, Any]) -> int:
    """What another is run for."""
    return int(args["n"]) * 10


async def _waits(ctx: Context, args: dict[str, Any]) -> list[Any]:
    async def pipeline(n: int) -> list[Any]:
        ran = await ctx.run("@process/tenfold", {"n": n})
        return [ran, await ctx.step("after", str, n)]

    await ctx.sleep(60)
    await ctx.sleep(until=datetime(2020, 1, 1, tzinfo=UTC))
    both = await ctx.gather(pipeline(1), pipeline(2), ctx.step("one", str, 1))
    mapped = await ctx.map("@process/tenfold", [{"n": n} for n in range(3)], concurrency=2)
    try:
        await ctx.gather(ctx.wait_for_event("never"), ctx.step("fails", int, "x"))
    except ValueError as error:
        both.append(str(error))
    return [*both, mapped, await ctx.wait_for_event("paid", key="k", timeout=60, default=None)]


waits = agent("@process/waits", isolation="process")(_waits)
waits_on_loop = agent("@process/waits_on_loop")(_waits)


@agent("@process/blocking_waits", isolation="process")
def blocking_waits(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    """The same without the failure."""
    ctx.sleep(60)
    both = ctx.gather(lambda: ctx.run("@process/tenfold", {"n": 1}), lambda: ctx.step("one", str, 1))
    mapped = ctx.map("@process/tenfold", [{"n": n} for n in range(3)], concurrency=2)
    return [*both, mapped, ctx.wait_for_event("paid", key="k", timeout=60, default=None)]
