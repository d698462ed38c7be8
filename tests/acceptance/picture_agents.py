"""The agents of the console's pictures: an analyst with a model, a tool and a child, and a clerk who asks people."""

from __future__ import annotations

import asyncio
from typing import Any

from runyard import Context, ModelTurn, ToolCall, agent


@agent("@acme/fact_check", version="1.3.0")
async def fact_check(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Checks claims against their sources."""
    await ctx.step("compare", _work, 0.2)
    return {"claims": args["claims"], "wrong": 0}


@agent(
    "@acme/research",
    version="2.1.0",
    input={
        "type": "object",
        "required": ["company"],
        "properties": {
            "company": {"type": "string", "maxLength": 80, "description": "Whom to look up."},
            "depth": {"enum": ["brief", "full"]},
            "sources": {"type": "integer", "minimum": 1},
        },
    },
)
async def research(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Finds what there is about a company, has it checked, and sums it up."""
    await ctx.log(f"Looking for {args['company']}")
    await ctx.step("find sources", _work, 0.3)
    call = ToolCall("call-1", "web_search", {"query": args["company"]})
    await ctx.model_turn("analyst", lambda: _turn("Three sources look useful.", 1240, 96, [call]))
    await ctx.tool_call("web_search", {"query": args["company"]}, _search, call_id="call-1")
    await ctx.progress(0.6, "sources read")
    checked = await ctx.run("@acme/fact_check", {"claims": 3})
    summary = await ctx.model_turn("analyst", lambda: _turn("It makes tools, and grows.", 2310, 180))
    return {"company": args["company"], "summary": summary, "checked": checked}


@agent("@acme/invoices", version="1.4.2", max_concurrent=4)
async def invoices(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Reads an invoice, asks for its cost centre, and has the posting approved."""
    total = await ctx.step("add up", _work, 0.1)
    centre = await ctx.ask("Which cost centre pays for the printer paper?", options=["Office", "Marketing"])
    posted = await ctx.review("post to ledger", {"amount": args["amount"], "cost_centre": centre})
    return {"total": total, **posted}


async def _work(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def _search(given: dict[str, Any]) -> list[str]:
    await asyncio.sleep(0.25)
    return [f"{given['query']}: annual report", f"{given['query']}: press", "trade register"]


async def _turn(text: str, read: int, written: int, calls: list[ToolCall] | None = None) -> ModelTurn:
    await asyncio.sleep(0.4)
    return ModelTurn(
        text, model="gpt-5-mini", input_tokens=read, output_tokens=written, cost=read * 2e-6 + written * 8e-6,
        text=text, tool_calls=calls or [],
    )  # fmt: skip
