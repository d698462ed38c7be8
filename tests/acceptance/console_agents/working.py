"""Agents for the console's pages of work: one that lists its files, one that asks before a deadline, one that chats."""

from __future__ import annotations

from typing import Any

from runyard import Context, agent

_LINES = {"type": "object", "properties": {"lines": {"type": "integer"}}}


@agent("@work/reader", version="1.0.0", input=_LINES)
async def reader(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Returns the names of its files, and its arguments."""
    return {"files": [file.name for file in ctx.files], "args": args}


@agent("@work/planner", version="1.0.0")
async def planner(ctx: Context, args: dict[str, Any]) -> Any:
    """Asks for a day, which has to be named within an hour."""
    return await ctx.ask("Which day?", schema={"type": "string", "maxLength": 20}, timeout=3600)


@agent("@work/chat", version="1.0.0")
async def chat(ctx: Context, args: dict[str, Any]) -> str:
    """Counts the messages of its session."""
    count = await ctx.state.get("count", 0) + 1
    await ctx.state.set("count", count)
    return f"Message {count} was: {ctx.task.message}"
