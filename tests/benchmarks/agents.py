"""The agent that does as little as the handlers of the peers."""

from __future__ import annotations

import asyncio
from typing import Any

from runyard import Context, agent
from tests.benchmarks.peers import site


@agent("@bench/work")
async def work(ctx: Context, args: dict[str, Any]) -> float:
    """Reports its first line, then waits on the loop."""
    site.mark()
    if args["seconds"]:
        await asyncio.sleep(args["seconds"])
    return float(args["seconds"])
