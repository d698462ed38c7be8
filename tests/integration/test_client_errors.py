"""Errors of `ctx.client` that the code catches are what they were after a crash, and so is what it does then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import openai
import pytest

from runyard import BlockingContext, Context, agent
from runyard.adapters import clients
from runyard.testing import run
from tests.fakes.model_server import ModelServer, Reply, fail, reply

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """The provider."""
    with ModelServer() as server:
        yield server
    clients._shared_blocking().close()
    clients._shared_blocking.cache_clear()


def _user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def _refused(request: dict[str, Any]) -> Reply:
    return {"full": fail(429, retry_after=2), "gone": fail(404)}.get(request["model"]) or reply(
        request["model"]
    )


def _noted(error: openai.APIStatusError) -> list[Any]:
    return [type(error).__name__, error.response.headers.get("retry-after")]


async def _falling_back(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Asks one model after the other, also streamed."""
    client, found = ctx.client("openai", base_url=args["url"], api_key="sk-test"), list[Any]()
    for model, stream in (("full", False), ("gone", True), ("good", False)):
        try:
            answer: Any = await client.chat.completions.create(
                model=model, messages=_user("one"), stream=stream
            )
            found.append(answer.choices[0].message.content)
        except openai.APIStatusError as error:
            found.append(_noted(error))
    return found


for _isolation in ("loop", "thread"):
    agent(f"@clients/falling_back_in_{_isolation}", isolation=_isolation)(_falling_back)


@agent("@clients/blocking_falling_back")
def blocking_falling_back(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    """The same in a thread."""
    client, found = ctx.client("openai", base_url=args["url"], api_key="sk-test"), list[Any]()
    for model in ("full", "gone", "good"):
        try:
            answer = client.chat.completions.create(model=model, messages=_user("one"))
            found.append(answer.choices[0].message.content)
        except openai.APIStatusError as error:
            found.append(_noted(error))
    return found


@agent("@clients/unreachable")
async def unreachable(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """Asks at a port that is closed, then at the provider."""
    nowhere = ctx.client("openai", base_url="http://127.0.0.1:9/v1", api_key="sk-test")
    try:
        await nowhere.chat.completions.create(model="gpt-test", messages=_user("one"))
    except openai.APIConnectionError as error:
        met = type(error.__cause__).__name__
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    answer = await client.chat.completions.create(model="good", messages=_user("two"))
    return [met, answer.choices[0].message.content]


@agent("@clients/raising_again")
async def raising_again(ctx: Context, args: dict[str, Any]) -> str:
    """Notes a failure, and raises it again."""
    client = ctx.client("openai", base_url=args["url"], api_key="sk-test")
    try:
        answer = await client.chat.completions.create(model="gpt-test", messages=_user("one"))
    except openai.RateLimitError:
        await ctx.log("busy")
        raise
    return str(answer.choices[0].message.content)


FELL_BACK = [["RateLimitError", "2"], ["NotFoundError", None], "good"]


@pytest.mark.parametrize(
    ("of", "writes"),
    [
        ("@clients/falling_back_in_loop", range(1, 8)),
        ("@clients/falling_back_in_thread", (5, 6)),
        ("@clients/blocking_falling_back", range(1, 8)),
    ],
)
def test_an_error_that_the_code_has_caught_is_the_same_error_after_a_crash(
    server: ModelServer, of: str, writes: Sequence[int]
) -> None:
    for write in writes:
        server.requests.clear()
        server.respond = _refused
        outcome = run(of, {"url": server.url}, crash_after=write)
        assert outcome.output == FELL_BACK, f"write {write}: {outcome.error}"
        assert [request["model"] for request in server.requests] == ["full", "gone", "good"], f"write {write}"


def test_a_connection_that_failed_is_the_same_error_after_a_crash(server: ModelServer) -> None:
    server.respond = _refused
    outcome = run(unreachable, {"url": server.url}, crash_after=4)
    assert (outcome.output, outcome.attempts) == (["ConnectError", "good"], 2), outcome.error
    assert len(server.requests) == 1


def test_a_caught_error_that_is_raised_again_is_asked_for_again_by_the_run(server: ModelServer) -> None:
    server.answer(fail(429), reply("1"))
    outcome = run(raising_again, {"url": server.url})
    assert (outcome.output, outcome.attempts) == ("1", 2), outcome.error
