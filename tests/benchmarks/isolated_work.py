"""The same small agent in each kind of isolation, at the top of a module: a child process imports it."""

from __future__ import annotations

from typing import Any

from runyard import BlockingContext, Context, agent


def _nothing() -> None:
    return None


async def _steps(ctx: Context, args: dict[str, Any]) -> None:
    for number in range(args["steps"]):
        await ctx.step(str(number), _nothing)


def _blocking_steps(ctx: BlockingContext, args: dict[str, Any]) -> None:
    for number in range(args["steps"]):
        ctx.step(str(number), _nothing)


@agent("@bench/endless", isolation="process")
def endless(ctx: BlockingContext, args: dict[str, Any]) -> None:
    """Never returns."""
    ctx.progress(0)
    while True:
        pass


agent("@bench/loop")(_steps)
agent("@bench/own_loop", isolation="thread")(_steps)
agent("@bench/process_loop", isolation="process")(_steps)
agent("@bench/thread")(_blocking_steps)
agent("@bench/process", isolation="process")(_blocking_steps)
