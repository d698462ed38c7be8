"""What Runyard adds to a model turn over the bare agent library: time and memory, on the same fake server.

Both sides hold the same conversation (tool calls, then an answer) with the same HTTP client and model object. The
figures are ratios: Runyard's time or memory for a turn to the library's own, medians of interleaved rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent

from common.settings import Settings
from runyard.tools import tool
from tests.declared import desk
from tests.fakes.model_server import Reply, calls, say
from workers.agent.loop.models import ProviderModels

pytestmark = [pytest.mark.benchmark, pytest.mark.anyio]
TURNS, RUNS, ROUNDS = 10, 10, 5


@tool(name="bench_look", effect="read")
async def look(n: int) -> str:
    """Look."""
    return f"seen {n}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def respond(request: dict[str, Any]) -> Reply:
    turn = 1 + sum(message["role"] == "assistant" for message in request["messages"])
    return say("done") if turn == TURNS else calls(bench_look={"n": turn})


async def test_time_and_memory_of_a_turn_as_ratios_to_the_bare_library(tmp_path: Path) -> None:
    async with desk(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as office:
        office.server.respond = respond
        office.publish(tools=["bench_look"])
        models = ProviderModels(Settings(model_base_url=office.server.url, home=tmp_path))
        bare = Agent(models.get("test-model").model, instructions="You are a test agent.")

        @bare.tool_plain(name="bench_look")
        async def _look(n: int) -> str:
            return await look(n)

        async def library() -> None:
            assert (await bare.run("Go.")).output == "done"

        async def runyard() -> None:
            assert (await office.completed("Go.")).output == "done"

        await library()
        await runyard()
        times = [(await _seconds(library), await _seconds(runyard)) for _ in range(ROUNDS)]
        memory = (await _peak(library), await _peak(runyard))
        await models.aclose()
    ratio = statistics.median(ours / theirs for theirs, ours in times)
    per_turn = [statistics.median(column) / (TURNS * RUNS) * 1000 for column in zip(*times, strict=True)]
    print(f"\ntime a turn: {ratio:.2f} × the library ({per_turn[1]:.1f} ms to {per_turn[0]:.1f} ms)")
    print(f"peak memory of {RUNS} runs at once: {memory[1] / memory[0]:.2f} × the library")
    assert ratio > 0


async def _seconds(once: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(once() for _ in range(RUNS)))
    return time.perf_counter() - began


async def _peak(once: Callable[[], Awaitable[None]]) -> int:
    tracemalloc.start()
    try:
        await asyncio.gather(*(once() for _ in range(RUNS)))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
