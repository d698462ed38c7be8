"""An agent that does all that the page of a run shows: nested steps, turns, tool calls, a wait, a child, a log."""

from __future__ import annotations

import asyncio
from typing import Any

from runyard import AgentError, Context, ModelTurn, agent


@agent(
    "@console/errand",
    version="2.1.0",
    input={
        "type": "object",
        "required": ["to"],
        "properties": {
            "to": {"type": "string", "maxLength": 40},
            "parcels": {"type": "integer", "minimum": 1},
            "lost": {"type": "boolean"},
        },
    },
)
async def errand(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Plans a way, asks for the hour, packs parcels and sends another run."""
    await ctx.log(f"An errand to {args['to']}")
    route = await ctx.step("plan the way", _walk, args["to"])
    text = await ctx.model_turn(
        "choose", lambda: ModelTurn("by bike", model="tiny-1", input_tokens=812, output_tokens=64)
    )
    await ctx.tool_call(
        "weather", {"place": args["to"]}, lambda given: {"rain": False, **given}, call_id="c1"
    )
    hour = await ctx.ask("At what hour?", options=["nine", "ten"])

    async def pack() -> int:
        for number in range(args.get("parcels", 2)):
            await ctx.step(f"parcel {number + 1}", _walk, f"parcel {number + 1}")
        return int(args.get("parcels", 2))

    packed = await ctx.step("pack", pack)
    await ctx.progress(0.8, "packed")
    if args.get("lost"):
        raise AgentError("The parcels were lost.", code="parcels_lost")
    echoed = await ctx.run("@demo/echo", {"hour": hour})
    return {"route": route, "by": text, "hour": hour, "packed": packed, "echoed": echoed}


async def _walk(what: str) -> str:
    await asyncio.sleep(0.05)
    return f"{what}: done"
