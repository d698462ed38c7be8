"""The smallest agents: what they are given comes back; they sleep; they fail."""

import asyncio
import time

from runyard import AgentError, BlockingContext, Context, agent


@agent("@demo/echo", version="1.0.0")
async def echo(ctx: Context, args: dict) -> dict:
    """Returns its arguments and the message."""
    return {"message": ctx.task.message, "args": args}


@agent(
    "@demo/sleeper",
    version="1.0.0",
    input={
        "type": "object",
        "properties": {"seconds": {"type": "number", "minimum": 0}},
        "additionalProperties": False,
    },
)
async def sleeper(ctx: Context, args: dict) -> dict:
    """Sleeps for `seconds` (default 1) without holding a thread."""
    seconds = args.get("seconds", 1)
    await asyncio.sleep(seconds)
    return {"slept": seconds}


@agent("@demo/blocking_sleeper", version="1.0.0")
def blocking_sleeper(ctx: BlockingContext, args: dict) -> dict:
    """Sleeps in a thread, a step at a time, so that a stop bites between two steps."""
    for number in range(int(args.get("steps", 1))):
        ctx.step(f"sleep {number}", time.sleep, float(args.get("seconds", 1)))
    return {"slept": float(args.get("seconds", 1)) * int(args.get("steps", 1))}


@agent("@demo/failer", version="1.0.0")
async def failer(ctx: Context, args: dict) -> dict:
    """Fails with the code and message it is given."""
    raise AgentError(args.get("message", "as asked"), code=args.get("code", "as_asked"))
