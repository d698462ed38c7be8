"""An agent with people in the loop: it adds up, asks for a cost centre, and has the booking approved."""

from runyard import Context, agent


def add_up(lines: list[dict]) -> float:
    """The sum of the lines' amounts."""
    return round(sum(line["amount"] for line in lines), 2)


def post_to_ledger(total: float, cost_centre: str) -> str:
    """Books the invoice; a real one would call the ledger's API."""
    return f"booked {total:.2f} on {cost_centre}"


@agent(
    "@demo/invoice_check",
    version="1.2.0",
    max_concurrent=4,
    input={
        "type": "object",
        "required": ["lines"],
        "properties": {
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["amount"],
                    "properties": {"text": {"type": "string"}, "amount": {"type": "number"}},
                },
            }
        },
    },
)
async def invoice_check(ctx: Context, args: dict) -> dict:
    """Checks an invoice: sums its lines, asks for the cost centre, and books it once a person approves."""
    total = await ctx.step("total", add_up, args["lines"])
    cost_centre = await ctx.ask("Which cost centre?", schema={"type": "string", "minLength": 1})
    await ctx.review("post to ledger", {"total": total, "cost_centre": cost_centre})
    receipt = await ctx.step("post to ledger", post_to_ledger, total, cost_centre, effect="irreversible")
    return {"total": total, "cost_centre": cost_centre, "receipt": receipt}
