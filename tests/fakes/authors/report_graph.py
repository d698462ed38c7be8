"""A report on LangGraph: parallel nodes, a subgraph, questions in two of them at once, a stream of its own."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

CALLS: list[str] = []


class State(TypedDict, total=False):
    topic: str
    notes: Annotated[list[str], operator.add]
    report: str


class Section(TypedDict, total=False):
    name: str
    notes: Annotated[list[str], operator.add]


async def plan(state: State) -> dict[str, Any]:
    CALLS.append("plan")
    return {}


def sections(state: State) -> list[Send]:
    return [Send("section", {"name": name}) for name in ("cost", "risk")]


def look(section: Section) -> dict[str, Any]:
    CALLS.append(f"look {section['name']}")
    get_stream_writer()({"looking at": section["name"]})
    return {"notes": [f"{section['name']} known"]}


def confirm(section: Section) -> dict[str, Any]:
    answer = interrupt({"question": f"Is the {section['name']} right?"})
    CALLS.append(f"confirm {section['name']}")
    return {"notes": [f"{section['name']} {answer}"]}


async def weigh(state: State) -> dict[str, Any]:
    CALLS.append("weigh")
    return {"notes": ["weighed"]}


def write(state: State) -> dict[str, Any]:
    first = interrupt("Title?")
    second = interrupt({"question": "Tone?", "options": ["dry", "warm"]})
    CALLS.append("write")
    return {"report": f"{first} ({second}): {', '.join(sorted(state['notes']))}"}


parts: Any = StateGraph(Section)
section = parts.add_node(look).add_node(confirm).add_edge(START, "look").add_edge("look", "confirm").compile()
graph = (
    StateGraph(State)
    .add_node("plan", plan)
    .add_node("section", section)
    .add_node("weigh", weigh)
    .add_node("write", write)
    .add_edge(START, "plan")
    .add_conditional_edges("plan", sections, ["section"])
    .add_edge("plan", "weigh")
    .add_edge(["section", "weigh"], "write")
    .add_edge("write", END)
    .compile()
)
