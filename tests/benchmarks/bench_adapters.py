"""What an adapter adds to a model turn and its tool call over the bare library: ratios, on the same fake server.

python -m tests.benchmarks.bench_adapters [--runs 10] [--rounds 5] [NAME …]

Both sides hold the same conversation (tool calls, then an answer), as an author writes it with the library alone and
with the adapter's one line. The figures are medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agents
import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool as langchain_tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI

from runyard import Context
from runyard.adapters import langgraph, openai_agents, pydantic_ai
from tests.benchmarks.bench_agent_overhead import TURNS, Ends, bare_agent, bench, look, seconds_of
from tests.benchmarks.bench_graph_adapter import chain
from tests.declared import Declared

pytestmark = [pytest.mark.benchmark, pytest.mark.anyio, pytest.mark.timeout(600)]
TOOL = {"type": "function", "function": {"name": "bench_look", "parameters": {"type": "object"}}}


@dataclass(frozen=True)
class Added:
    """Seconds of wall and CPU a turn with its tool call: of the library, and with the adapter."""

    name: str
    theirs: tuple[float, float]
    ours: tuple[float, float]

    @property
    def cpu(self) -> float:
        """The ratio of the CPU."""
        return self.ours[1] / self.theirs[1]

    def summary(self) -> str:
        """The figures as ratios."""
        return (
            f"{self.name}: {self.ours[0] / self.theirs[0]:.2f} × the library's time, "
            f"{self.cpu:.2f} × its CPU ({self.ours[1] * 1000:.1f} ms to {self.theirs[1] * 1000:.1f} ms, the server's "
            "included)"
        )


async def added(
    name: str,
    theirs: Callable[[], Awaitable[None]],
    ours: Callable[[], Awaitable[None]],
    runs: int,
    rounds: int,
) -> Added:
    """Measure both sides in turn."""
    await theirs()
    await ours()
    pairs = [(await seconds_of(theirs, runs), await seconds_of(ours, runs)) for _ in range(rounds)]
    sides = [
        tuple(statistics.median(pair[side][what] for pair in pairs) / (TURNS * runs) for what in (0, 1))
        for side in (0, 1)
    ]
    return Added(name, (sides[0][0], sides[0][1]), (sides[1][0], sides[1][1]))


async def adapted_agent(declared: Declared, runs: int, rounds: int) -> Added:
    """A pydantic-ai agent, bare and adapted."""
    bare, ends = bare_agent(declared), Ends(declared)
    name = declared.site.publish(pydantic_ai(bare, stream=False), "@bench/adapted")

    async def library() -> None:
        assert (await bare.run("Go.")).output == "done"

    async def runyard() -> None:
        await ends.completed("Go.", name)

    return await added("pydantic_ai, a turn with its call", library, runyard, runs, rounds)


async def converse(client: Any, call: Callable[[str, Any], Awaitable[Any]]) -> str:
    """A loop as one writes it by hand."""
    messages: list[Any] = [{"role": "user", "content": "Go."}]
    while True:
        answer = await client.chat.completions.create(
            model="test-model", messages=messages, tools=[TOOL], stream=False
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            return str(message.content)
        messages.append(message.model_dump(exclude_none=True))
        for one in message.tool_calls:
            result = await call(one.id, json.loads(one.function.arguments))
            messages.append({"role": "tool", "tool_call_id": one.id, "content": str(result)})


async def plain_client(declared: Declared, runs: int, rounds: int) -> Added:
    """A loop over OpenAI's client, bare and journaled."""
    bare, ends = AsyncOpenAI(base_url=declared.server.url, api_key="none"), Ends(declared)

    async def loop(ctx: Context, args: Any) -> str:
        """The loop as an agent."""

        async def call(id_: str, arguments: Any) -> Any:
            return await ctx.tool_call("bench_look", arguments, lambda given: look(**given), call_id=id_)

        return await converse(ctx.client("openai", base_url=declared.server.url), call)

    name = declared.site.publish(loop, "@bench/client")

    async def library() -> None:
        assert await converse(bare, lambda id_, arguments: look(**arguments)) == "done"

    async def runyard() -> None:
        await ends.completed("Go.", name)

    return await added("client, a turn with its call", library, runyard, runs, rounds)


async def openai_agent(declared: Declared, runs: int, rounds: int) -> Added:
    """An agent of the OpenAI Agents SDK, bare and adapted. Its tracing is off in both: it would go to the internet."""
    client, ends = AsyncOpenAI(base_url=declared.server.url, api_key="none"), Ends(declared)
    bare = agents.Agent(
        name="bench",
        instructions="You are a test agent.",
        model=agents.OpenAIChatCompletionsModel("test-model", client),
        tools=[agents.function_tool(look, name_override="bench_look")],
    )
    config = agents.RunConfig(tracing_disabled=True)
    name = declared.site.publish(openai_agents(bare, max_turns=TURNS, stream=False), "@bench/openai_agents")

    async def library() -> None:
        result = await agents.Runner.run(bare, "Go.", max_turns=TURNS, run_config=config)
        assert result.final_output == "done"

    async def runyard() -> None:
        await ends.completed("Go.", name)

    return await added("openai_agents, a turn with its call", library, runyard, runs, rounds)


async def graph_turn(declared: Declared, runs: int, rounds: int) -> Added:
    """An agent of LangChain's `create_agent`: a node for each turn and one for each call, bare and adapted."""
    key: Any = "none"
    model = ChatOpenAI(model="test-model", base_url=declared.server.url, api_key=key, max_retries=0)
    tool = langchain_tool("bench_look")(look)
    ends = Ends(declared)
    bare: Any = create_agent(model, [tool], system_prompt="You are a test agent.")
    config: Any = {"recursion_limit": 3 * TURNS}
    name = declared.site.publish(langgraph(bare, config=config, tokens=False), "@bench/graph")

    async def library() -> None:
        result = await bare.ainvoke({"messages": [{"role": "user", "content": "Go."}]}, config)
        assert result["messages"][-1].content == "done"

    async def runyard() -> None:
        await ends.completed("Go.", name)

    return await added("langgraph, a turn with its call", library, runyard, runs, rounds)


async def graph_node(declared: Declared, runs: int, rounds: int) -> Added:
    """A node of a graph that asks no model, bare and adapted."""
    bare, ends = chain(TURNS), Ends(declared)
    name = declared.site.publish(langgraph(bare), "@bench/nodes")

    async def library() -> None:
        result = await bare.ainvoke({"messages": [{"role": "user", "content": "Go."}]})
        assert len(result["messages"]) == TURNS + 1

    async def runyard() -> None:
        await ends.completed("Go.", name)

    return await added("langgraph, a node", library, runyard, runs, rounds)


MEASURES = {
    "pydantic_ai": adapted_agent,
    "openai_agents": openai_agent,
    "langgraph": graph_turn,
    "node": graph_node,
    "client": plain_client,
}


async def test_an_adapter_costs_a_small_multiple_of_the_bare_library(tmp_path: Path) -> None:
    async with bench(tmp_path) as declared:
        for name in ("pydantic_ai", "openai_agents", "langgraph", "client"):
            found = await MEASURES[name](declared, runs=5, rounds=3)
            print(f"\n{found.summary()}")
            assert found.cpu < 4


async def _main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with bench(Path(folder)) as declared:
            for name in options.names or MEASURES:
                print((await MEASURES[name](declared, options.runs, options.rounds)).summary(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASURES)}; without one, all")
    parser.add_argument("--runs", type=int, default=10, help="runs at once")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts")
    asyncio.run(_main(parser.parse_args()))
