"""What Runyard adds to a model turn over the bare agent library: time and memory, on the same fake server.

python -m tests.benchmarks.bench_agent_overhead [--runs 10] [--rounds 5] [--streams 500]

Both sides hold the same conversation (tool calls, then an answer); the bare one with the library's own client, as its
documentation shows it. The figures are ratios: Runyard's time, CPU or memory for a turn to the library's own, medians
of interleaved rounds. So are a turn of one long conversation and a streamed token. Then as many streaming runs at
once as `--streams` in one worker process, each of which must hear all of its own tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from runyard.tools import tool
from runyard_common.costly import tune_process
from runyard_common.database.transaction import CommittedEvent
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import submissions
from tests.declared import BOT, Declared, declared_agents
from tests.fakes.model_server import Reply, calls, last_user, reply

pytestmark = [pytest.mark.benchmark, pytest.mark.anyio, pytest.mark.timeout(600)]
TURNS = 10
LONG = 60
TOKENS = 2000
#: Seconds an answer streams for each run that is to be under way with it: more than a run takes to start.
_A_START = 0.06
ANSWER = "one two three four five six seven eight nine ten"


@tool(name="bench_look", effect="read")
async def look(n: int) -> str:
    """Look."""
    return f"seen {n}"


def respond(request: dict[str, Any]) -> Reply:
    """Turns that call the tool, then an answer; a streamed request is answered at once, piece by piece."""
    asked = last_user(request)
    if request.get("stream"):
        return reply(" ".join(["word"] * TOKENS) if asked == "Tokens." else ANSWER)
    turn = 1 + sum(message["role"] == "assistant" for message in request["messages"])
    return reply("done") if turn == (LONG if asked == "Long." else TURNS) else calls(bench_look={"n": turn})


@asynccontextmanager
async def bench(home: Path, capacity: int = 50) -> AsyncIterator[Declared]:
    """A worker with an agent that has the tool, its database warm."""
    async with declared_agents(f"sqlite:///{home / 'runyard.db'}", home, capacity=capacity) as declared:
        declared.server.respond = respond
        declared.publish(tools=["bench_look"], config={"max_turns": LONG})
        await declared.completed("Go.")
        tune_process()  # as a worker does, for both sides
        yield declared


class Ends:
    """Runs that are followed by their events: a poll for each would cost more than what is measured."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._loop = asyncio.get_running_loop()
        self._ended: dict[str, asyncio.Future[str]] = {}
        declared.site.recorder.publish = self._publish  # type: ignore[method-assign]

    async def completed(self, message: str, agent: str = BOT, **options: Any) -> None:
        """Submit a run, which must complete."""
        spec = await asyncio.to_thread(
            self._declared.site.spec, agent, None, message, input={"options": options}
        )
        ended = self._ended[spec.task_id] = self._loop.create_future()
        await self._declared.site.writer.call(submissions.submit, spec)
        assert await asyncio.wait_for(ended, 300) == "finish"

    def _publish(self, events: Sequence[CommittedEvent], /) -> None:
        for event in events:
            ended = self._ended.get(event.task_id)
            if ended is not None and event.type in ("finish", "fail", "cancel", "expire"):
                self._loop.call_soon_threadsafe(ended.set_result, event.type)


@dataclass(frozen=True)
class Overhead:
    """Seconds of CPU and wall a turn, and bytes at the peak, of the library and of Runyard."""

    wall: tuple[float, float]
    cpu: tuple[float, float]
    peak: tuple[int, int]

    def summary(self) -> str:
        """The figures as ratios."""
        wall, cpu, peak = (ours / theirs for theirs, ours in (self.wall, self.cpu, self.peak))
        theirs, ours = (seconds * 1000 for seconds in self.cpu)
        return (
            f"a turn: {wall:.2f} × the library's time, {cpu:.2f} × its CPU ({ours:.1f} ms to {theirs:.1f} ms, the fake "
            f"server's included); peak memory {peak:.2f} ×"
        )


def bare_agent(declared: Declared) -> Agent[None, str]:
    """The library's agent with its own client."""
    provider = OpenAIProvider(base_url=declared.server.url, api_key="none")
    bare = Agent(OpenAIChatModel("test-model", provider=provider), instructions="You are a test agent.")
    bare.tool_plain(name="bench_look")(look)
    return bare


async def overhead(declared: Declared, runs: int, rounds: int) -> Overhead:
    """Measure both sides in turn."""
    bare, ends = bare_agent(declared), Ends(declared)

    async def library() -> None:
        assert (await bare.run("Go.")).output == "done"

    async def runyard() -> None:
        await ends.completed("Go.")

    await library()
    pairs = [(await seconds_of(library, runs), await seconds_of(runyard, runs)) for _ in range(rounds)]
    peak = (await _peak(library, runs), await _peak(runyard, runs))
    turns = TURNS * runs
    wall, cpu = (
        tuple(statistics.median(pair[side][what] for pair in pairs) / turns for side in (0, 1))
        for what in (0, 1)
    )
    return Overhead((wall[0], wall[1]), (cpu[0], cpu[1]), peak)


@dataclass(frozen=True)
class Length:
    """Milliseconds of CPU of the library and of Runyard: a turn of a long conversation, and a streamed token."""

    turn: tuple[float, float]
    token: tuple[float, float]

    def summary(self) -> str:
        """The figures as ratios."""
        (theirs, ours), (their_token, our_token) = self.turn, self.token
        return (
            f"a turn of a conversation of {LONG}: {ours / theirs:.2f} × the library's CPU ({ours:.1f} ms to "
            f"{theirs:.1f} ms); a streamed token: {our_token / their_token:.2f} × ({our_token:.2f} ms to "
            f"{their_token:.2f} ms)"
        )


async def length(declared: Declared, rounds: int) -> Length:
    """Measure both sides in turn, one run at a time."""
    bare, ends = bare_agent(declared), Ends(declared)

    async def ignored(_: Any, stream: AsyncIterable[Any]) -> None:
        async for _event in stream:
            pass

    async def long() -> None:
        await bare.run("Long.", usage_limits=UsageLimits(request_limit=None))

    async def tokens() -> None:
        await bare.run("Tokens.", event_stream_handler=ignored)

    async def cpu(once: Callable[[], Awaitable[None]]) -> float:
        return (await seconds_of(once, 1))[1] * 1000

    turns, pieces = [], []
    for _ in range(rounds):
        turns.append((await cpu(long), await cpu(lambda: ends.completed("Long."))))
        pieces.append(
            (await cpu(tokens), await cpu(lambda: ends.completed("Tokens.", streaming_tokens=True)))
        )
    turn = [statistics.median(one[side] for one in turns) / LONG for side in (0, 1)]
    token = [statistics.median(one[side] for one in pieces) / TOKENS for side in (0, 1)]
    return Length((turn[0], turn[1]), (token[0], token[1]))


@dataclass(frozen=True)
class Streams:
    """How many streaming runs at once, for how long, and what they took."""

    runs: int
    most_at_once: int
    seconds: float
    memory_kib: float

    def summary(self) -> str:
        """The figures."""
        return (
            f"{self.runs} streaming runs: {self.most_at_once} at once in one process, {self.seconds:.1f} s, "
            f"{self.memory_kib:.0f} KiB a run"
        )


async def streams(declared: Declared, runs: int) -> Streams:
    """Stream `runs` answers at once; every run must hear every token of its answer, in order."""
    engine, tokens = declared.site.engines[0], declared.site.recorder.tokens
    tokens.clear()
    before, began, most = _resident_kib(), time.perf_counter(), 0
    declared.server.respond = lambda request: reply(ANSWER, piece_delay=runs * _A_START / len(ANSWER.split()))
    ids = await asyncio.gather(*(declared.submit("Stream.", streaming_tokens=True) for _ in range(runs)))
    engine.wake()
    peak = before
    while engine.running or not await asyncio.to_thread(_all_ended, declared, ids):
        most, peak = max(most, engine.running), max(peak, _resident_kib())
        await asyncio.sleep(0.1)
    heard: dict[str, str] = {}
    for token in tokens:
        heard[token["task_id"]] = heard.get(token["task_id"], "") + token["text"]
    assert Counter(heard.values()) == {ANSWER: runs}
    return Streams(runs, most, time.perf_counter() - began, (peak - before) / runs)


def _all_ended(declared: Declared, ids: Sequence[str]) -> bool:
    with declared.site.store.read() as conn:
        found = tasks.load(conn, ids).values()
    assert not [task.error for task in found if task.status is Status.FAILED]
    return all(task.status is Status.COMPLETED for task in found)


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


async def seconds_of(once: Callable[[], Awaitable[None]], runs: int) -> tuple[float, float]:
    """Seconds of wall and of CPU that so many at once take."""
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(once() for _ in range(runs)))
    return time.perf_counter() - wall, time.process_time() - cpu


async def _peak(once: Callable[[], Awaitable[None]], runs: int) -> int:
    tracemalloc.start()
    try:
        await asyncio.gather(*(once() for _ in range(runs)))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_a_turn_costs_a_small_multiple_of_the_bare_librarys(tmp_path: Path) -> None:
    async with bench(tmp_path) as declared:
        found = await overhead(declared, runs=5, rounds=3)
    print(f"\n{found.summary()}")
    assert found.wall[1] / found.wall[0] < 4
    assert found.cpu[1] / found.cpu[0] < 2
    assert found.peak[1] / found.peak[0] < 4


async def test_long_conversations_and_tokens_cost_no_more_than_with_the_bare_library(tmp_path: Path) -> None:
    async with bench(tmp_path) as declared:
        found = await length(declared, rounds=3)
    print(f"\n{found.summary()}")
    assert found.turn[1] / found.turn[0] < 1.5
    assert found.token[1] / found.token[0] < 1.5


async def test_five_hundred_streams_run_at_once_in_one_process(tmp_path: Path) -> None:
    async with bench(tmp_path, capacity=500) as declared:
        found = await streams(declared, 500)
    print(f"\n{found.summary()}")
    assert found.most_at_once == 500


async def _main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with bench(Path(folder), capacity=options.streams) as declared:
            print((await overhead(declared, options.runs, options.rounds)).summary())
            print((await length(declared, (options.rounds + 1) // 2)).summary())
            print((await streams(declared, options.streams)).summary())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="runs at once")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts")
    parser.add_argument("--streams", type=int, default=500, help="streaming runs at once")
    asyncio.run(_main(parser.parse_args()))
