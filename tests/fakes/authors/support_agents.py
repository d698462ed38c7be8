"""A support desk on the OpenAI Agents SDK: a hand-off, tools, an approval, a guardrail, structured output. Its model is
at OPENAI_BASE_URL."""

from __future__ import annotations

from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunContextWrapper,
    Runner,
    function_tool,
    input_guardrail,
    set_default_openai_api,
)
from pydantic import BaseModel

set_default_openai_api("chat_completions")
CALLS: list[str] = []


class Verdict(BaseModel):
    """Whether a message is for the desk."""

    off_topic: bool


class Resolution(BaseModel):
    """How the case ended."""

    refunded: float
    note: str


@function_tool
def find_order(order: str) -> dict[str, Any]:
    """Find an order by its number."""
    CALLS.append(f"find_order {order}")
    return {"order": order, "what": "a blue lamp", "price": 40.0}


@function_tool(needs_approval=True)
async def refund(order: str, amount: float) -> str:
    """Pay an amount back."""
    CALLS.append(f"refund {order} {amount:g}")
    return f"{amount:g} paid back"


judge = Agent(name="judge", model="test-model", instructions="Is this for a shop?", output_type=Verdict)


@input_guardrail(run_in_parallel=False)
async def for_the_desk(
    ctx: RunContextWrapper[Any], agent: Agent[Any], message: Any
) -> GuardrailFunctionOutput:
    """Ask the judge."""
    verdict = (await Runner.run(judge, message, context=ctx.context)).final_output
    return GuardrailFunctionOutput(verdict, tripwire_triggered=verdict.off_topic)


stock = Agent(name="stock", model="test-model", instructions="You know what is in stock.")
refunds = Agent(
    name="refunds",
    model="test-model",
    instructions="You pay back what was broken.",
    tools=[refund, stock.as_tool("ask_stock", "Ask what is in stock.")],
    output_type=Resolution,
)
triage = Agent(
    name="triage",
    model="test-model",
    instructions="You are the first to answer.",
    tools=[find_order],
    handoffs=[refunds],
    input_guardrails=[for_the_desk],
)
