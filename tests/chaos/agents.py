"""The innocent agents of the chaos runs. Everything they do is noted in the ledger."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import Any

from runyard import BlockingContext, Context, agent
from tests.chaos.ledger import BEGIN, END, LEAVE, Life

#: Steps whose names begin so have an effect that must not happen twice.
IRREVERSIBLE = "pay"


def life_of(ctx: Context | BlockingContext, thread: bool = False) -> Life:
    """Note that this agent's code begins."""
    return Life(ctx.task.id, ctx.task.attempt, thread)


async def work(life: Life, step: str, seconds: float) -> str:
    """A step's function."""
    life.note(BEGIN, step)
    await asyncio.sleep(seconds)
    return life.note(END, step)


def work_in_thread(life: Life, step: str, seconds: float) -> str:
    """The same, blocking."""
    life.note(BEGIN, step)
    time.sleep(seconds)
    return life.note(END, step)


async def wait(life: Life, seconds: float) -> None:
    """Give signs of life for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        life.tick()
        await asyncio.sleep(0.1)


@agent("@chaos/mixed")
async def mixed(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Steps, and by `kind` a question, a review or a child between them."""
    life, pause = life_of(ctx), args["pause"]
    done = []
    for name in ("one", "two"):
        done.append(await ctx.step(name, work, life, name, pause / 4))
        await asyncio.sleep(pause)
    match args["kind"]:
        case "ask":
            done.append(await ctx.ask("Go on?"))
        case "review":
            done.append((await ctx.review("go on", {"n": 1}))["n"])
        case "child":
            done.append((await ctx.run("@chaos/child", {"pause": pause}))["child"])
    done.append(await ctx.step("three", work, life, "three", pause / 4))
    life.note(LEAVE)
    return {"done": done}


@agent("@chaos/child")
async def child(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Two steps."""
    life = life_of(ctx)
    await ctx.step("c1", work, life, "c1", args["pause"] / 4)
    await asyncio.sleep(args["pause"])
    await ctx.step("c2", work, life, "c2", args["pause"] / 4)
    life.note(LEAVE)
    return {"child": True}


@agent("@chaos/payer")
async def payer(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Steps that must not happen twice, between others; the first of them some time after the claim."""
    life, pause = life_of(ctx), args["pause"]
    await wait(life, args["pause"] * 8)
    for number in range(3):
        await ctx.step(f"look{number}", work, life, f"look{number}", pause / 4)
        name = f"{IRREVERSIBLE}{number}"
        await ctx.step(name, work, life, name, pause / 2, effect="irreversible")
    life.note(LEAVE)
    return {"paid": 3}


@agent("@chaos/plain")
def plain(ctx: BlockingContext, args: dict[str, Any]) -> dict[str, Any]:
    """A plain function with steps."""
    life, pause = life_of(ctx, thread=True), args["pause"]
    for name in ("one", "two", "three"):
        ctx.step(name, work_in_thread, life, name, pause / 4)
        time.sleep(pause)
    life.note(LEAVE)
    return {"plain": True}


@agent("@chaos/declared", retries=2)
async def declared(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """An agent that declares retries for its own errors, and makes none."""
    life = life_of(ctx)
    for number in range(4):
        await ctx.step(f"part{number}", work, life, f"part{number}", args["pause"] / 4)
        await asyncio.sleep(args["pause"])
    life.note(LEAVE)
    return {"parts": 4}


@agent("@chaos/stepless")
async def stepless(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """A long run without a step: all of it is lost when its worker dies."""
    life = life_of(ctx)
    await wait(life, args["pause"] * 12)
    life.note(LEAVE)
    return {"ticked": True}


@agent("@chaos/writer")
async def writer(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Writes often: whenever its worker is stopped, a step is under way or about to begin."""
    life = life_of(ctx)
    for number in range(int(args["pause"] * 300)):
        await ctx.step(f"w{number}", work, life, f"w{number}", 0.03)
        if number % 5 == 0:
            await ctx.emit("written", {"number": number})
    life.note(LEAVE)
    return {"written": True}


@agent("@chaos/slow")
async def slow(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Long steps: a stopped worker wakes in the middle of one that another has begun meanwhile."""
    life = life_of(ctx)
    for name in ("slow0", "slow1"):
        await ctx.step(name, work, life, name, args["pause"] * 20)
    life.note(LEAVE)
    return {"slow": True}


@agent("@chaos/blocker")
def blocker(ctx: BlockingContext, args: dict[str, Any]) -> dict[str, Any]:
    """Blocks its thread, holding the interpreter's lock most of the time, far longer than a lease."""
    life = life_of(ctx, thread=True)
    until = time.monotonic() + args["seconds"]
    sleep = ctypes.PyDLL(None).usleep  # which does not give the lock to others, and uses no processor
    count = 0
    while time.monotonic() < until:
        sleep(5000)
        count += 1
    life.note(LEAVE)
    return {"count": count > 0}
