"""Agents of `large_values`: one that measures how late its loop is, and one whose output and events are large."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from runyard import Context, agent

#: An event has 256 KiB at most.
EVENT = 200 * 2**10


@agent("@bench/probe")
async def probe(ctx: Context, args: dict[str, Any]) -> list[float]:
    """Milliseconds by which each short sleep on the worker's loop was too long."""
    late: list[float] = []
    end = time.perf_counter() + args["seconds"]
    while time.perf_counter() < end:
        began = time.perf_counter()
        await asyncio.sleep(args["pause"])
        late.append(round(1e3 * (time.perf_counter() - began - args["pause"]), 2))
    return late


@agent("@bench/large")
async def large(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Emits `bytes` in events, and returns as many."""
    for number in range(args["bytes"] // EVENT):
        await ctx.emit("custom", {"number": number, "text": "y" * EVENT})
    return {"text": "x" * args["bytes"]}
