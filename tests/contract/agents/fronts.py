"""Agents that the contract tests run through every front."""

import asyncio
from pathlib import Path
from typing import Any

from runyard import AgentError, Context, agent


@agent(
    "support_triage",
    input={
        "type": "object",
        "required": ["ticketId", "priority"],
        "properties": {
            "ticketId": {"type": "string"},
            "priority": {"enum": ["low", "high"]},
            "language": {"type": "string"},
        },
    },
)
async def support_triage(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Sorts a ticket (the sample of nara's page)."""
    return {
        "category": "billing",
        "nextStep": "escalate_to_human",
        "summary": f"{args['ticketId']} is billing.",
    }


@agent("gives", description="Returns the value it is given.")
async def gives(ctx: Context, args: dict[str, Any]) -> object:
    return args.get("value")


@agent("narrator", description="Logs what it does.")
async def narrator(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    await ctx.progress(0.5, "half way")
    await ctx.emit("milestone", {"name": "middle"})
    return {"logged": True}


@agent("chat_only", functional=False, description="Talks, and takes no arguments.")
async def chat_only(ctx: Context, args: dict[str, Any]) -> str:
    return "hello"


@agent("waits", description="Ends after so many seconds.")
async def waits(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(args.get("seconds", 1))
    return {"waited": args.get("seconds", 1)}


@agent("gated", description="Ends once a file is there.")
async def gated(ctx: Context, args: dict[str, Any]) -> str:
    await _there(Path(args.get("gate") or ctx.task.message or ""))
    return "through"


async def _there(file: Path) -> None:
    while not file.exists():  # noqa: ASYNC110 - only a test knows when it comes
        await asyncio.sleep(0.2)


@agent("asks", description="Asks its user for a colour.")
async def asks(ctx: Context, args: dict[str, Any]) -> str:
    colour = await ctx.ask("Which colour?")
    return f"You like {colour}."


@agent("spends", description="Fails as an agent does whose budget is spent.")
async def spends(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    raise AgentError("The budget is spent.", code="budget_exhausted")


@agent("remembers", description="Counts the earlier messages.")
async def remembers(ctx: Context, args: dict[str, Any]) -> str:
    history = ctx.session.history if ctx.session is not None else ()
    messages = [line["content"] for line in history if line["role"] == "user"]
    return f"{len(messages)} before: {', '.join(messages)}"


@agent("speaks", description="Streams its answer word by word.")
async def speaks(ctx: Context, args: dict[str, Any]) -> str:
    words = ["Grüße ", "aus ", "der ", "Ferne"]
    for word in words:
        await ctx.token(word)
        await asyncio.sleep(0.01)
    return "".join(words)


@agent("ledger", description="Adds up in a step, for every message.")
async def ledger(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    total = await ctx.step("add up", sum, [3, 4])
    await ctx.progress(1.0, "added")
    return {"total": total}


@agent("reviewed", description="Has a person look at a step.")
async def reviewed(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    await ctx.review("post to ledger", {"total": 7})
    return {"summary": "posted", "total": 7}


#: Names as far as the rule goes; each must run through every front.
NAMED = ("@contract/Odd.Name-1_x", "@contract/9lives", "@a-b/" + "n" * 128)


async def named(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": ctx.task.agent}


for _name in NAMED:
    agent(_name)(named)
