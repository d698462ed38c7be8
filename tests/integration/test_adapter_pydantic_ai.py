"""A pydantic-ai agent, unmodified, is journaled: no turn is asked for twice and no tool called twice across crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.toolsets import FunctionToolset

from runyard import Context, agent
from runyard.adapters import _pydantic_ai, pydantic_ai
from runyard.testing import Outcome, approve, edit, reject, run
from tests.fakes.model_server import ModelServer, Reply, calls, fail, reply, results_of
from tests.integration.support_agent import Answer, Shop, support

SHOP = Shop()
REVIEWS = {
    "Approve the call of coupon.": approve(),
    "Approve the call of refund.": edit({"order": "A1", "amount": 4}),
}

agent("@adapted/support")(pydantic_ai(support, deps=SHOP))  # the one line


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """The provider of the agent's model."""
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        server.respond = script
        SHOP.done.clear()
        yield server


def script(request: dict[str, Any]) -> Reply:
    """What the model answers, by the number of results that it was given."""
    return [
        calls(lookup={"order": "A1"}, text="Let me look."),
        calls(coupon={"percent": 20}),
        calls(refund={"order": "A1", "amount": 5}),
        calls(final_result={"order": "A1"}),  # breaks its type: the library asks again
        calls(final_result={"order": "A1", "refunded": 4}),
    ][len(results_of(request))]


def support_run(**more: Any) -> Outcome:
    """A customer's complaint."""
    return run("@adapted/support", {"message": "A1 is lost."}, answers=REVIEWS, **more)


DONE = ["lookup A1", "coupon 20", "refund A1 4"]
OUTPUT = {"order": "A1", "refunded": 4.0}


def test_the_agents_turns_tools_approvals_output_and_cost_are_the_runs(server: ModelServer) -> None:
    outcome = support_run()
    assert (outcome.status, outcome.output) == ("completed", OUTPUT), outcome.error
    assert SHOP.done == DONE
    assert [data["text"] for data in outcome.of_type("message")] == ["Let me look."]
    assert "".join(outcome.tokens) == "Let me look."
    assert [data["tool"] for data in outcome.of_type("tool_call")] == ["lookup", "coupon", "refund"]
    results = [(data["tool"], data["outcome"]) for data in outcome.of_type("tool_result")]
    assert results == [("lookup", "ok"), ("coupon", "ok"), ("refund", "ok")]
    assert len(outcome.of_type("model_turn")) == outcome.usage["turns"] == len(server.requests) == 5
    assert outcome.usage["input_tokens"] > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("attempt", [0, 1, 2])
def test_killed_at_every_journal_write_it_asks_no_turn_and_calls_no_tool_twice(
    server: ModelServer, attempt: int
) -> None:
    """`attempt`: 0 until the first review is asked for, 1 until the second, 2 from its answer on."""
    attempts = 3
    for write in range(1, 100):
        server.requests.clear()
        SHOP.done.clear()
        outcome = support_run(crash_after=[99] * attempt + [write])
        assert (outcome.status, outcome.output) == ("completed", OUTPUT), f"write {write}: {outcome.error}"
        assert SHOP.done == DONE, f"write {write}"
        assert len(server.requests) == outcome.usage["turns"] == 5, f"write {write}"
        if outcome.attempts == attempts:  # the attempt made fewer writes than that
            assert write > 3
            return
    raise AssertionError("the run has no end")


@pytest.mark.parametrize(
    ("given", "options", "why"),
    [
        (None, {}, "takes an Agent of pydantic-ai, not NoneType"),
        ("x", {}, "takes an Agent of pydantic-ai, not str"),
        (support, {"deps_factory": 3}, "deps_factory is a function of .*, not int"),
        (support, {"deps": SHOP, "deps_factory": lambda ctx, args: SHOP}, "deps or deps_factory, not both"),
        (support, {"effects": "read"}, "effects is {tool: effect}, not str"),
        (support, {"effects": {"lookup": "boom"}}, "'boom', which is none of read, idempotent, irreversible"),
        (support, {"effects": {"lookpu": "irreversible"}}, "no such tool; did you mean 'lookup'"),
        (support, {"effects": {"nosuch": "read"}}, "names 'nosuch', and the agent has no such tool"),
    ],
)
def test_what_no_run_could_use_is_refused_where_it_is_declared(given: Any, options: Any, why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        pydantic_ai(given, **options)


def test_an_effect_of_a_toolset_that_is_mistyped_is_refused_at_the_run(server: ModelServer) -> None:
    def dynamic(ctx: Any) -> FunctionToolset:
        return FunctionToolset([_book])

    booking = Agent("openai-chat:gpt-test", toolsets=[dynamic], defer_model_check=True)
    server.respond = lambda request: reply("done")
    for name, code in (("_bok", "invalid_effects"), ("_book", None)):
        agent("@adapted/booking")(pydantic_ai(booking, effects={name: "irreversible"}))
        outcome = run("@adapted/booking", {"message": "go"})
        assert (outcome.error or {}).get("code") == code


def _book() -> str:
    return "booked"


def test_the_provider_of_a_model_that_is_named_is_imported_in_a_thread(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_loop: list[bool] = []

    def infer(model: str) -> None:
        on_a_loop.append(asyncio._get_running_loop() is not None)

    monkeypatch.setattr(_pydantic_ai, "infer_model", infer)
    monkeypatch.setattr(_pydantic_ai, "_imported", set())
    assert support_run().output == OUTPUT
    assert on_a_loop == [False]


def test_a_rejected_call_is_the_models_to_know(server: ModelServer) -> None:
    server.respond = None
    server.answer(calls(refund={"order": "A1", "amount": 5}))
    server.when(lambda request: any("too much" in text for text in results_of(request)), reply_with(0))
    outcome = run("@adapted/support", {"message": "Hello."}, answers=[reject("too much")])
    assert (outcome.output, SHOP.done) == ({"order": "A1", "refunded": 0.0}, [])
    assert [data["outcome"] for data in outcome.of_type("tool_result")] == ["rejected"]


def reply_with(refunded: float) -> Reply:
    """The agent's answer."""
    return calls(final_result={"order": "A1", "refunded": refunded})


@pytest.mark.parametrize("crash", [[], [1], [2], [3]])
def test_calls_that_reach_no_tool_or_ask_to_be_made_again_end_in_the_log(
    server: ModelServer, crash: list[int]
) -> None:
    server.respond = lambda request: [
        calls(lookup={"order": "B1"}),
        calls(coupon={"pct": 1}),
        calls(look_up={}),
        reply_with(0),
    ][len(results_of(request))]
    outcome = run("@adapted/support", {"message": "Hello."}, crash_after=crash)
    assert outcome.status == "completed", outcome.error
    ended = [(data["tool"], data["outcome"]) for data in outcome.of_type("tool_result")]
    assert ended == [("lookup", "failed"), ("coupon", "failed"), ("look_up", "failed")]
    assert [data["tool"] for data in outcome.of_type("tool_call")] == ["lookup", "coupon", "look_up"]
    assert len(server.requests) == 4


@agent("@adapted/once")
async def once(ctx: Context, args: dict[str, Any]) -> Any:
    """The agent with a client that does not try again by itself."""
    client = AsyncOpenAI(max_retries=0)
    model = OpenAIChatModel("gpt-test", provider=OpenAIProvider(openai_client=client))
    try:
        return (await pydantic_ai(support).run(ctx, "Hello.", deps=SHOP, model=model)).output
    finally:
        await client.close()


def test_a_providers_passing_failure_is_tried_again_by_the_run(server: ModelServer) -> None:
    server.respond = None
    server.answer(calls(lookup={"order": "A1"}), fail(503), fail(429, retry_after=2), reply_with(1))
    outcome = run(once)
    assert (outcome.output, outcome.attempts) == ({"order": "A1", "refunded": 1.0}, 3), outcome.error
    assert SHOP.done == ["lookup A1"]
    assert [data["error"]["cause"] for data in outcome.of_type("retry")] == ["provider"] * 2


@agent("@adapted/own")
async def own(ctx: Context, args: dict[str, Any]) -> list[Any]:
    """The agent within a function of one's own: its result is the library's."""
    adapted = pydantic_ai(support)
    first = await adapted.run(ctx, "One.", deps=SHOP)
    second = await adapted.run(ctx, "Two.", deps=SHOP, message_history=first.all_messages())
    assert isinstance(second.output, Answer)
    return [first.output, second.output, second.usage.requests]


@pytest.mark.parametrize("crash", [[], [2], [4]])
def test_within_a_function_of_ones_own_several_runs_are_journaled(
    server: ModelServer, crash: list[int]
) -> None:
    server.respond = None
    server.answer(reply_with(1), reply_with(2))
    outcome = run(own, crash_after=crash)
    assert outcome.output == [{"order": "A1", "refunded": 1.0}, {"order": "A1", "refunded": 2.0}, 1]
    assert len(server.requests) == 2


def test_the_adapted_agent_has_the_schemas_of_its_type() -> None:
    adapted = pydantic_ai(support)
    assert set(adapted.input_schema["properties"]) == {"message"}
    assert adapted.output_schema is not None
    assert set(adapted.output_schema["properties"]) == {"order", "refunded"}


def test_a_session_goes_on_and_dependencies_are_made_of_the_run(server: ModelServer) -> None:
    async def shop(ctx: Context, args: Any) -> Shop:
        SHOP.done.append(f"shop of {args['message']}")
        return SHOP

    adapted = agent("@adapted/session")(pydantic_ai(support, deps_factory=shop))
    server.respond = None
    server.answer(reply_with(1))
    history = [
        {"role": "user", "type": "user_message", "content": "I am Ada."},
        {"role": "assistant", "type": "agent_response", "content": "Hello, Ada."},
    ]
    outcome = run(adapted, {"message": "Who am I?"}, history=history)
    assert outcome.status == "completed", outcome.error
    assert SHOP.done == ["shop of Who am I?"]
    (request,) = server.requests
    texts = [
        message["content"] for message in request["messages"] if message["role"] in ("user", "assistant")
    ]
    assert texts == ["I am Ada.", "Hello, Ada.", "Who am I?"]


def test_without_a_message_it_names_what_it_needs() -> None:
    error = run("@adapted/support", {}).error
    assert error is not None
    assert error["code"] == "invalid_input"


def _desk() -> Agent[None, str]:
    desk = Agent("openai-chat:gpt-test", name="desk", defer_model_check=True)

    @desk.tool_plain(requires_approval=True)
    def pay(amount: int) -> str:
        SHOP.done.append(f"pay {amount}")
        return f"paid {amount}"

    @desk.tool_plain
    def ask(question: str) -> str:
        raise CallDeferred

    return desk


agent("@adapted/desk")(pydantic_ai(_desk(), effects={"pay": "irreversible"}))


@pytest.mark.parametrize("crash", [[], [2], [4], [6]])
def test_approvals_of_one_turn_are_asked_for_together_and_deferred_calls_are_questions(
    server: ModelServer, crash: list[int]
) -> None:
    server.respond = lambda request: {
        0: calls(("pay", {"amount": 1}), ("pay", {"amount": 2})),
        2: calls(ask={"question": "Which colour?"}),
        3: reply(f"Paid, {results_of(request)[-1:]}."),
    }[len(results_of(request))]
    answers = [approve(), reject("too much"), "red"]
    outcome = run("@adapted/desk", {"message": "Pay."}, answers=answers, crash_after=crash)
    assert (outcome.status, outcome.output) == ("completed", "Paid, ['red']."), outcome.error
    assert outcome.asked == ("Approve the call of pay.", "Approve the call of pay.", "Which colour?")
    assert SHOP.done == ["pay 1"]
    assert len(server.requests) == 3
    ended = sorted((data["tool"], data["outcome"]) for data in outcome.of_type("tool_result"))
    assert ended == [("ask", "ok"), ("pay", "ok"), ("pay", "rejected")]
