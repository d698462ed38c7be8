"""Agents of the chaos runs. Every execution of a step appends a line to CHAOS_LEDGER, so that repeats show."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from runyard import Context, agent


def note(task_id: str, step: str, attempt: int) -> str:
    """One line, written by one write to a file opened for appending: whole, whoever else writes."""
    line = f"{time.time():.6f} {task_id} {step} {attempt}\n"
    handle = os.open(os.environ["CHAOS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)
    return step


@agent("@chaos/mixed", version="1.0.0")
async def mixed(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Steps, and by `kind` a question, a review or a child between them."""
    done = []
    for name in ("one", "two"):
        done.append(await ctx.step(name, note, ctx.task.id, name, ctx.task.attempt))
        await asyncio.sleep(args["pause"])
    if args["kind"] == "ask":
        done.append(await ctx.ask("Go on?"))
    elif args["kind"] == "review":
        done.append((await ctx.review("go on", {"n": 1}))["n"])
    elif args["kind"] == "child":
        done.append((await ctx.run("@chaos/child", {"pause": args["pause"]}))["child"])
    done.append(await ctx.step("three", note, ctx.task.id, "three", ctx.task.attempt))
    return {"done": done}


@agent("@chaos/child", version="1.0.0")
async def child(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Two steps."""
    await ctx.step("c1", note, ctx.task.id, "c1", ctx.task.attempt)
    await asyncio.sleep(args["pause"])
    await ctx.step("c2", note, ctx.task.id, "c2", ctx.task.attempt)
    return {"child": True}


@agent("@chaos/blocker", version="1.0.0")
def blocker(ctx: object, args: dict[str, Any]) -> dict[str, Any]:
    """Blocks its thread, holding the interpreter's lock most of the time, far longer than a lease."""
    until = time.monotonic() + args["seconds"]
    count = 0
    while time.monotonic() < until:
        count += sum(range(2000))
    note(ctx.task.id, "blocked", ctx.task.attempt)  # type: ignore[attr-defined]
    return {"count": count > 0}
