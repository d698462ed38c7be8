"""A support desk on LangGraph: tools, an approval, structured output. Its model is at OPENAI_BASE_URL."""

from __future__ import annotations

import httpx2
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

CALLS: list[str] = []
HTTP = httpx2.AsyncClient()


class Resolution(BaseModel):
    """How the case ended."""

    refunded: float
    note: str


@tool
def find_order(order: str) -> str:
    """Find an order by its number."""
    CALLS.append(f"find_order {order}")
    return f"{order}: a blue lamp, 40.00, delivered broken"


@tool
def refund(order: str, amount: float) -> str:
    """Pay an amount back."""
    CALLS.append(f"refund {order} {amount:g}")
    return f"{amount:g} paid back"


graph = create_agent(
    ChatOpenAI(model="test-model", max_retries=0, streaming=True, stream_usage=True, http_async_client=HTTP),
    [find_order, refund],
    system_prompt="You are the support desk.",
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"refund": True})],
    response_format=ToolStrategy(Resolution),
)
