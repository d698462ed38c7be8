"""An agent of pydantic-ai as its author wrote it: it knows nothing of Runyard."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ApprovalRequired, ModelRetry


@dataclass
class Shop:
    """What the tools work on."""

    done: list[str] = field(default_factory=list)


class Answer(BaseModel):
    """What became of the order."""

    order: str
    refunded: float


support = Agent(
    "openai-chat:gpt-test",
    deps_type=Shop,
    output_type=Answer,
    name="support",
    instructions="You help customers of a shop.",
    defer_model_check=True,
)


@support.tool
async def lookup(ctx: RunContext[Shop], order: str) -> dict[str, str]:
    """Where an order is."""
    if not order.startswith("A"):
        raise ModelRetry("Orders begin with A.")
    ctx.deps.done.append(f"lookup {order}")
    return {"order": order, "state": "lost"}


@support.tool
def coupon(ctx: RunContext[Shop], percent: int) -> str:
    """Give a coupon; a large one needs a person's word."""
    if percent > 10 and not ctx.tool_call_approved:
        raise ApprovalRequired
    ctx.deps.done.append(f"coupon {percent}")
    return f"a coupon of {percent} %"


@support.tool(requires_approval=True)
async def refund(ctx: RunContext[Shop], order: str, amount: float) -> str:
    """Pay money back."""
    ctx.deps.done.append(f"refund {order} {amount:g}")
    return f"refunded {amount:g}"
