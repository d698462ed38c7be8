"""What Runyard adds to a node of a LangGraph graph over the bare library: CPU and time.

python -m tests.benchmarks.bench_graph_adapter [--runs 20] [--rounds 5] [--nodes 20]

Both sides run the same graph, a chain of nodes that each add a message. The bare library runs it without a checkpointer
and with its own in memory, which a crash takes along; Runyard commits each node to SQLite. The figures are medians of
interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from runyard.adapters import langgraph
from runyard_common.costly import tune_process
from runyard_common.runs.rules.lifecycle import Status
from tests.installation import Installation


def chain(nodes: int, **compiled: Any) -> Any:
    """A graph of so many nodes, one after the other."""

    async def add(state: MessagesState) -> Any:
        return {"messages": [("ai", "word " * 50)]}

    builder: Any = StateGraph(MessagesState)
    names = [f"node{number}" for number in range(nodes)]
    for before, name in zip([START, *names], names, strict=False):
        builder.add_node(name, add).add_edge(before, name)
    return builder.compile(**compiled)


async def measure(runs: int, rounds: int, nodes: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of CPU and of time a node, by side."""
    given = {"messages": [("user", "Go.")]}
    config: dict[str, Any] = {"recursion_limit": nodes + 5}
    bare, kept = chain(nodes), chain(nodes, checkpointer=InMemorySaver())

    async def library(number: int) -> None:
        await bare.ainvoke(given, config)

    async def in_memory(number: int) -> None:
        await kept.ainvoke(given, config | {"configurable": {"thread_id": f"{number} {time.monotonic()}"}})

    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder:
        async with Installation(f"sqlite:///{folder}/runyard.db", files=Path(folder)) as site:
            await site.engine()
            name = site.publish(langgraph(chain(nodes), config=config), "@bench/chain")
            tune_process()

            async def runyard(number: int) -> None:
                ended = await site.ended(await site.submit(name, given))
                assert ended.status is Status.COMPLETED, ended.error

            sides: dict[str, Callable[[int], Awaitable[None]]] = {
                "the library": library, "the library, checkpoints in memory": in_memory, "Runyard": runyard,
            }  # fmt: skip
            measured: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for side in sides.values():
                await side(-1)
            for _ in range(rounds):
                for name_, side in sides.items():
                    measured[name_].append(await _milliseconds(side, runs, nodes))
    return {
        side: (statistics.median(cpu for cpu, _ in figures), statistics.median(wall for _, wall in figures))
        for side, figures in measured.items()
    }


async def _milliseconds(side: Callable[[int], Awaitable[None]], runs: int, nodes: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(runs):
        await side(number)
    per = 1000 / (runs * nodes)
    return (time.process_time() - cpu) * per, (time.perf_counter() - wall) * per


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, default in (("--runs", 20), ("--rounds", 5), ("--nodes", 20)):
        parser.add_argument(option, type=int, default=default)
    figures = asyncio.run(measure(**vars(parser.parse_args())))
    base = figures["the library"]
    for side, (cpu, wall) in figures.items():
        times = f"{cpu / base[0]:.2f} ×), {wall:.2f} ms of time ({wall / base[1]:.2f} ×)"
        print(f"{side}: {cpu:.2f} ms of CPU a node ({times}")


if __name__ == "__main__":
    main()
