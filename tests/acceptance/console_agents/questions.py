"""Agents that show the console everything it has to show: streams, choices, reviews, hostile text."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from runyard import Context, agent

HOSTILE = "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"


@agent("@console/hostile", version="1.0.0")
async def hostile(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Sends markup wherever an agent may send text; <script>window.broken = 3</script>."""
    await ctx.log(HOSTILE)
    await ctx.emit(HOSTILE, {HOSTILE: HOSTILE})
    answer = await ctx.ask(HOSTILE, options=[HOSTILE, "no"])
    return {"answer": answer, "text": HOSTILE}


@agent("@console/streamer", version="1.0.0")
async def streamer(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Streams word by word until a message stops it."""
    await ctx.step("listen", str.upper, "ready")
    while not await ctx.messages():
        await ctx.token("a word ")
        await asyncio.sleep(0.1)
    return {"sent": "enough"}


@agent(
    "@console/order",
    version="1.0.0",
    max_concurrent=1,
    input={
        "type": "object",
        "required": ["item", "size"],
        "properties": {
            "item": {"type": "string", "maxLength": 40},
            "size": {"enum": ["small", "large"]},
            "count": {"type": "integer", "minimum": 1},
            "gift": {"type": "boolean"},
            "notes": {"type": "array", "items": {"type": "string"}},
        },
    },
)
async def order(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Takes an order, asks how it is sent, and has the amount approved."""
    address = await ctx.ask(
        "Where to?",
        schema={
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "maxLength": 40}, "floor": {"type": "integer"}},
        },
    )
    approved = await ctx.review("charge the card", {"amount": 12.5})
    return {**args, "address": address, "amount": approved["amount"]}


@agent("@console/patient", version="1.0.0", max_concurrent=1)
async def patient(ctx: Context, args: dict[str, Any]) -> str:
    """Works until it is stopped; one at a time."""
    await asyncio.sleep(600)
    return "done"


class Card(BaseModel):
    """Paid at once."""

    type: Literal["card"]
    number: str


class Transfer(BaseModel):
    """Paid later."""

    type: Literal["transfer"]
    days: int | None = None


class Address(BaseModel):
    """Where a parcel goes."""

    street: str


class Parcel(BaseModel):
    """What types of an author's give a form: one of several, and objects that may be left out."""

    pay: Annotated[Card | Transfer, Field(discriminator="type")]
    to: Address | None = None
    back_to: Address | None = None


@agent("@console/parcel", version="1.0.0")
async def parcel(ctx: Context, args: Parcel) -> Parcel:
    """Returns what it was given."""
    return args
