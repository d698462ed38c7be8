"""Agents that do as little as the peer's tasks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from runyard import Context, agent


@agent("@bench/noop")
async def noop(ctx: Context, args: dict[str, Any]) -> float:
    """Returns when it began."""
    return time.time()


@agent("@bench/sleep")
async def sleep(ctx: Context, args: dict[str, Any]) -> float:
    """Sleeps on the loop."""
    await asyncio.sleep(args["seconds"])
    return float(args["seconds"])
