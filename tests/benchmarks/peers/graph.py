"""The graph that the servers of LangGraph run: one node, which does as little as the handlers of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from tests.benchmarks.peers import site

#: What the configuration of such a server has.
CONFIG = {"dependencies": ["."], "graphs": {"bench": f"{Path(__file__)}:graph"}}


class State(TypedDict):
    """What a run is given."""

    seconds: float


async def work(state: State) -> State:
    """The handler."""
    site.mark()
    if state["seconds"]:
        await asyncio.sleep(state["seconds"])
    return state


builder = StateGraph(State)
builder.add_node("work", work)
builder.add_edge(START, "work")
builder.add_edge("work", END)
graph = builder.compile()
