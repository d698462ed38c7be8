"""`ctx.client`: a provider's own client whose calls are journaled turns, whole and streamed, async and blocking."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from runyard import BlockingContext, Context, agent
from runyard.adapters import clients
from runyard.testing import Outcome, approve, run
from runyard_workers.attempts import client_imports
from tests import process_agents  # noqa: F401 - its agents are registered
from tests.fakes.model_server import ModelServer, calls, fail, reply

#: A run is made for each of its journal writes.
pytestmark = pytest.mark.timeout(180)

seen: list[str] = []


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """The provider."""
    seen.clear()
    with ModelServer() as server:
        yield server
    clients._shared_blocking().close()
    clients._shared_blocking.cache_clear()


def _user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@agent("@clients/whole")
async def whole(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Two calls, the second of the first's answer."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    found = []
    for text in ("one", "two"):
        answer = await client.chat.completions.create(model="gpt-test", messages=_user(text))
        found.append(answer.choices[0].message.content)
    return found


@agent("@clients/streamed")
async def streamed(ctx: Context, args: dict[str, Any]) -> str:
    """A call whose answer comes word by word."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    stream = await client.chat.completions.create(model="gpt-test", messages=_user("where?"), stream=True)
    words = []
    async for chunk in stream:
        word = chunk.choices[0].delta.content or ""
        words.append(word)
        seen.append(word)
    return "".join(words)


@agent("@clients/blocking")
def blocking(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    """The same in a thread."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    answer = client.chat.completions.create(model="gpt-test", messages=_user("one"))
    stream = client.chat.completions.create(model="gpt-test", messages=_user("where?"), stream=True)
    return [answer.choices[0].message.content, "".join(c.choices[0].delta.content or "" for c in stream)]


@agent("@clients/anthropic")
async def anthropic(ctx: Context, args: dict[str, Any]) -> list[str]:
    """Anthropic's client, whole and streamed."""
    client = ctx.client("anthropic", base_url=args["root"], api_key="sk-test")
    asked: dict[str, Any] = {"model": "claude-test", "max_tokens": 100, "messages": _user("one")}
    answer = await client.messages.create(**asked)
    async with client.messages.stream(**asked) as stream:
        text = "".join([piece async for piece in stream.text_stream])
    return [answer.content[0].text, text]


def _turns(outcome: Outcome) -> list[tuple[Any, ...]]:
    found = outcome.of_type("model_turn")
    return [(data["model"], data["usage"]["output_tokens"] > 0, data["finish_reason"]) for data in found]


@pytest.mark.parametrize("crash", [[], [1], [2], [1, 1]])
def test_whole_answers_are_turns_of_the_run(server: ModelServer, crash: list[int]) -> None:
    server.answer(reply("1"), reply("2"))
    outcome = run(whole, {"url": server.url}, crash_after=crash)
    assert outcome.output == ["1", "2"], outcome.error
    assert len(server.requests) == 2
    assert [data["text"] for data in outcome.of_type("message")] == ["1", "2"]
    assert _turns(outcome) == [("gpt-test", True, "stop")] * 2


@pytest.mark.parametrize("crash", [[], [1]])
def test_a_stream_comes_as_it_is_and_is_replayed_as_one(server: ModelServer, crash: list[int]) -> None:
    server.answer(reply("It is on its way."))
    outcome = run(streamed, {"url": server.url}, crash_after=crash)
    assert outcome.output == "It is on its way.", outcome.error
    assert len(seen) > 4
    assert _turns(outcome) == [("gpt-test", True, "stop")]
    assert len(server.requests) == 1


@pytest.mark.parametrize("crash", [[], [1], [2]])
def test_a_blocking_client_does_the_same(server: ModelServer, crash: list[int]) -> None:
    server.answer(reply("1"), reply("It is on its way."))
    outcome = run(blocking, {"url": server.url}, crash_after=crash)
    assert outcome.output == ["1", "It is on its way."], outcome.error
    assert (len(server.requests), outcome.usage["turns"]) == (2, 2)


@pytest.mark.parametrize("crash", [[], [1], [2]])
def test_anthropics_client_does_the_same(server: ModelServer, crash: list[int]) -> None:
    server.answer(reply("1"), reply("It is on its way."))
    outcome = run(anthropic, {"root": server.root}, crash_after=crash)
    assert outcome.output == ["1", "It is on its way."], outcome.error
    assert _turns(outcome) == [("claude-test", True, "end_turn")] * 2
    assert (len(server.requests), outcome.usage["turns"]) == (2, 2)


@pytest.mark.parametrize("kind", [whole, streamed, blocking])
def test_a_failure_that_passes_is_tried_again_by_the_run(server: ModelServer, kind: Any) -> None:
    server.answer(fail(429, retry_after=3), fail(503), *[reply("1")] * 2)
    outcome = run(kind, {"url": server.url})
    assert (outcome.status, outcome.attempts) == ("completed", 3), outcome.error
    first, second = outcome.of_type("retry")
    assert (first["error"]["code"], first["error"]["cause"]) == ("model_rate_limited", "provider")
    assert second["error"]["code"] == "model_unavailable"


@agent("@clients/handles")
async def handles(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Handles the errors of the provider's library itself."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    try:
        await client.chat.completions.create(model="gpt-test", messages=_user("one"))
    except openai.RateLimitError as error:
        found = [type(error).__name__, error.status_code, error.response.headers["retry-after"]]
    nowhere = ctx.client("openai", base_url="http://127.0.0.1:9/v1", api_key="sk-test")
    try:
        await nowhere.chat.completions.create(model="gpt-test", messages=_user("one"))
    except openai.APIConnectionError as error:
        found.append(type(error).__name__)
    return found


def test_errors_keep_the_types_of_the_providers_library(server: ModelServer) -> None:
    server.answer(fail(429, retry_after=3))
    outcome = run(handles, {"url": server.url})
    assert outcome.output == ["RateLimitError", 429, "3", "APIConnectionError"], outcome.error


def test_a_clients_calls_are_within_the_runs_budget(server: ModelServer) -> None:
    used = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
    server.when(lambda request: True, reply("1", usage=used), forever=True)
    priced = {"url": server.url}
    outcome = run(priced_agent, priced, options={"budget": 0.1}, answers=[approve()])
    assert (outcome.status, outcome.asked[0][:38]) == (
        "completed",
        "The run has spent $0.150000 of its bud",
    ), outcome


@agent("@clients/priced")
async def priced_agent(ctx: Context, args: dict[str, Any]) -> int:
    """Asks a model that the public list has a price for."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    for text in ("one", "two"):
        await client.chat.completions.create(model="gpt-4o-mini", messages=_user(text))
    return 2


@agent("@clients/leaves")
async def leaves(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Leaves a stream at its second word, and asks again."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    words = []
    async with await client.chat.completions.create(
        model="gpt-test", messages=_user("where?"), stream=True
    ) as stream:
        async for chunk in stream:
            words.append(chunk.choices[0].delta.content or "")
            if len(words) == 2:
                break
    answer = await client.chat.completions.create(model="gpt-test", messages=_user("one"))
    return ["".join(words), answer.choices[0].message.content]


@pytest.mark.parametrize("crash", [[], [1]])
def test_a_stream_that_is_left_early_is_recorded_whole(server: ModelServer, crash: list[int]) -> None:
    server.answer(reply("It is on its way."), reply("1"))
    outcome = run(leaves, {"url": server.url}, crash_after=crash)
    assert outcome.output == ["It", "1"], outcome.error
    assert [data["text"] for data in outcome.of_type("message")] == ["It is on its way.", "1"]
    assert len(server.requests) == 2


def test_a_stream_that_is_cut_is_asked_for_again_by_the_run(server: ModelServer) -> None:
    server.answer(reply("It is on its way.", cut_after=3), reply("It is on its way."))
    outcome = run(streamed, {"url": server.url})
    assert (outcome.output, outcome.attempts) == ("It is on its way.", 2), outcome.error
    assert [data["error"]["cause"] for data in outcome.of_type("retry")] == ["provider"]


@pytest.mark.timeout(180)
@pytest.mark.processes
def test_adapters_do_in_a_process_of_the_agents_what_they_do_elsewhere(server: ModelServer) -> None:
    final = calls(final_result={"order": "A1", "refunded": 0})
    answers = [fail(429, retry_after=3), reply("1"), reply("one two"), calls(lookup={"order": "A1"}), final]
    server.answer(*answers)
    outcome = run("@process/adapted", {"url": server.url}, processes=True, crash_after=[4], timeout=90)
    assert outcome.output == ["1", True, {"order": "A1", "refunded": 0.0}], outcome.error
    (retry,) = outcome.of_type("retry")
    assert (retry["error"]["code"], retry["error"]["cause"]) == ("model_rate_limited", "provider")
    assert (len(server.requests), outcome.usage["turns"]) == (5, 4)


def test_the_library_of_a_client_is_imported_in_a_thread_before_its_first_run(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = []

    def import_(vendors: tuple[str, ...]) -> None:
        imported.append((vendors, len(server.requests), threading.current_thread().name))

    monkeypatch.setattr(client_imports, "import_clients", import_)
    monkeypatch.setattr(client_imports, "_imports", {})
    server.answer(*[reply("1")] * 4)
    for _ in range(2):
        assert run(whole, {"url": server.url}).status == "completed"
    assert imported == [(("openai", "anthropic"), 0, "imports-0")]


@agent("@clients/side_by_side")
async def side_by_side(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Calls that come in any order, before and behind a wait."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")

    async def ask(text: str) -> Any:
        await asyncio.sleep(os.urandom(1)[0] / 10_000)
        answer = await client.chat.completions.create(model="gpt-test", messages=_user(text))
        return answer.choices[0].message.content

    found = await asyncio.gather(*(ask(f"q{number}") for number in range(6)))
    await ctx.ask("on?")
    return [*found, *await asyncio.gather(*(ask(f"q{number}") for number in range(6, 9)))]


@agent("@clients/side_by_side_in_threads")
def side_by_side_in_threads(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    """The same in threads of the agent's own."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")

    def ask(number: int) -> Any:
        answer = client.chat.completions.create(model="gpt-test", messages=_user(f"q{number}"))
        return answer.choices[0].message.content

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(6)))
        ctx.ask("on?")
        return [*found, *pool.map(ask, range(6, 9))]


@pytest.mark.parametrize("of", [side_by_side, side_by_side_in_threads])
@pytest.mark.parametrize("crash", [[], [3], [6]])
def test_calls_side_by_side_get_their_own_answers_again(
    server: ModelServer, of: Any, crash: list[int]
) -> None:
    server.respond = lambda request: reply(f"answer to {request['messages'][-1]['content']}")
    outcome = run(of, {"url": server.url}, answers={"on?": True}, crash_after=crash)
    assert outcome.error is None
    assert outcome.output == [f"answer to q{number}" for number in range(9)]


@agent("@clients/by_the_clock")
async def by_the_clock(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Requests that differ at each attempt."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    found = []
    for _ in range(2):
        answer = await client.chat.completions.create(model="gpt-test", messages=_user(os.urandom(8).hex()))
        found.append(answer.choices[0].message.content)
    return [*found, await ctx.ask("on?")]


@agent("@clients/plainly_by_the_clock")
def plainly_by_the_clock(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    """The same in a thread."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    found = []
    for _ in range(2):
        answer = client.chat.completions.create(model="gpt-test", messages=_user(os.urandom(8).hex()))
        found.append(answer.choices[0].message.content)
    return [*found, ctx.ask("on?")]


@pytest.mark.parametrize("of", [by_the_clock, plainly_by_the_clock])
def test_a_request_that_differs_at_each_attempt_is_found_by_its_order(server: ModelServer, of: Any) -> None:
    asked: list[str] = []

    def answer(request: dict[str, Any]) -> Any:
        asked.append(request["messages"][-1]["content"])
        return reply(f"answer {len(asked)}")

    server.respond = answer
    outcome = run(of, {"url": server.url}, answers={"on?": True})
    assert (outcome.output, len(asked)) == (["answer 1", "answer 2", True], 2)
