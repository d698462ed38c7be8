"""How runs of agents of the OpenAI Agents SDK fail, each way with its code and cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    LocalShellTool,
    MaxTurnsExceeded,
    ModelRetrySettings,
    ModelSettings,
    Runner,
    function_tool,
    input_guardrail,
    retry_policies,
    set_default_openai_api,
)
from agents.models import _openai_shared

from runyard import Context, agent, authoring
from runyard.adapters import openai_agents
from runyard.testing import run
from tests.fakes.model_server import ModelServer, Reply, calls, fail, reply, results_of

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def agents() -> Iterator[None]:
    """What a test registers is its own."""
    before = authoring.registered()
    yield
    authoring.restore(before)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.setattr(_openai_shared, "_use_responses_by_default", True)
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        yield server


def chat(**options: Any) -> Agent[Any]:
    """An agent that answers."""
    set_default_openai_api("chat_completions")
    return Agent(**{"name": "chat", "model": "test-model", **options})


def test_a_providers_passing_failure_is_tried_again_by_the_run(model: ModelServer) -> None:
    made: list[str] = []

    @function_tool
    async def ask_stock() -> str:
        made.append("stock")
        return str((await Runner.run(chat(name="stock"), "Lamps?")).final_output)

    outer = chat(name="outer", tools=[ask_stock])
    model.answer(calls(ask_stock={}), fail(503), fail(429, retry_after=2), reply("three"), reply("done"))
    outcome = run(agent("outer")(openai_agents(outer)), message="Go.")
    assert (outcome.output, outcome.attempts) == ("done", 3), outcome.error
    assert [data["error"]["cause"] for data in outcome.of_type("retry")] == ["provider"] * 2
    assert len(made) == 3  # the failure of its provider is no text for the model
    assert len(model.requests) == 5


@pytest.mark.parametrize(
    ("answers", "code", "cause"),
    [
        ([fail(400)], "model_request_rejected", "provider"),
        ([fail(401)], "model_key_refused", "provider"),
        ([calls(nosuch={})], "model_behavior", "agent"),
        ([reply("{")], "model_behavior", "agent"),
        ([calls(look={"of": "x"})], "agent_error", "agent"),
        ([calls(look={"of": "1"}), calls(look={"of": "2"})], "max_turns", "agent"),
    ],
)
def test_a_failure_has_its_own_code_and_cause(
    model: ModelServer, answers: list[Reply], code: str, cause: str
) -> None:
    @function_tool(failure_error_function=None)
    def look(of: str) -> int:
        return int(of)

    looking = chat(tools=[look], output_type=AgentOutputSchema(dict[str, int], strict_json_schema=False))
    model.answer(*answers)
    outcome = run(agent("looking")(openai_agents(looking, max_turns=2)), message="Go.")
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["cause"]) == (code, cause), outcome.error
    if code == "agent_error":
        assert outcome.error["message"].startswith("ValueError: invalid literal")


def test_code_around_a_run_catches_the_librarys_own_exceptions(model: ModelServer) -> None:
    @input_guardrail
    async def on_topic(context: Any, asked: Any, given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput({"about": given}, tripwire_triggered=given == "Weather?")

    @function_tool
    def look() -> str:
        return "again"

    @agent("catching")
    async def catching(ctx: Context, args: Any) -> list[Any]:
        adapted = openai_agents(chat(tools=[look], input_guardrails=[on_topic]))

        async def ask() -> Any:
            return await adapted.run(ctx, "Weather?")

        found = []
        try:
            await ctx.step("ask", ask)
        except InputGuardrailTripwireTriggered as error:
            found.append(str(error))
        try:
            await adapted.run(ctx, "Lamps?", max_turns=1)
        except MaxTurnsExceeded as error:
            found.append(error.message)
        return found

    model.answer(calls(look={}))
    outcome = run(catching, crash_after=3)
    assert outcome.output == ["The guardrail on_topic stopped the run.", "Max turns (1) exceeded"], (
        outcome.error
    )
    assert outcome.attempts == 2


@pytest.mark.parametrize("api", ["chat_completions", "responses"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply("all of it", cut_after=2, cut_quietly=True), "model_stream_cut"),
        (reply("all of it", cut_after=2), "model_connection_failed"),
        (reply("all of it", breaks=True), "model_server_error"),
    ],
)
def test_a_stream_that_does_not_come_to_its_end_is_asked_for_again(
    model: ModelServer, api: Any, answer: Reply, code: str
) -> None:
    asked = chat()
    set_default_openai_api(api)
    model.answer(answer, reply("all of it"))
    outcome = run(agent("chat")(openai_agents(asked)), message="Go.")
    assert (outcome.output, outcome.attempts) == ("all of it", 2), outcome.error
    assert [data["error"]["code"] for data in outcome.of_type("retry")] == [code]


def test_an_answer_that_its_limit_of_tokens_cut_off_is_a_failure_of_its_own(model: ModelServer) -> None:
    asked = chat()
    for api in ("chat_completions", "responses"):
        set_default_openai_api(api)
        model.answer(Reply(text="" if api == "chat_completions" else "half", finish_reason="length"))
        outcome = run(agent("chat")(openai_agents(asked)), message="Go.")
        assert outcome.error is not None
        assert (outcome.error["code"], outcome.error["cause"]) == ("model_output_truncated", "provider")


def test_a_turn_that_is_out_of_time_is_the_providers_failure(model: ModelServer) -> None:
    model.answer(reply("late", delay=30), reply("done"))
    outcome = run(
        agent("chat")(openai_agents(chat(model_settings=ModelSettings(timeout=2.0)))), message="Go."
    )
    assert outcome.output == "done", outcome.error
    assert [data["error"]["code"] for data in outcome.of_type("retry")] == ["model_timeout"]


def test_what_the_models_settings_try_again_is_one_turn(model: ModelServer) -> None:
    settings = ModelSettings(
        retry=ModelRetrySettings(
            max_retries=2, policy=retry_policies.http_status([503]), backoff={"initial_delay": 0}
        )
    )
    tried = agent("trying")(openai_agents(chat(model_settings=settings)))
    for write in range(1, 5):
        model.requests.clear()
        model.answer(fail(503), reply("done"))
        outcome = run(tried, message="Go.", crash_after=[write])
        assert (outcome.output, outcome.usage["turns"]) == ("done", 1), outcome.error
        assert outcome.attempts <= 2
    assert len(model.requests) == 2


def test_a_failure_that_a_tool_makes_into_a_text_is_shown_as_one(model: ModelServer) -> None:
    @function_tool
    def look() -> str:
        raise ValueError("nothing there")

    model.respond = lambda request: reply("done") if results_of(request) else calls(look={})
    outcome = run(agent("looking")(openai_agents(chat(tools=[look]))), message="Go.", crash_after=[4])
    assert outcome.output == "done"
    assert results_of(model.requests[-1])[0].startswith("An error occurred")
    assert [data["outcome"] for data in outcome.of_type("tool_result")] == ["failed"]


@pytest.mark.parametrize(
    ("given", "options", "why"),
    [
        ("x", {}, "takes an Agent of the OpenAI Agents SDK, not str"),
        (Agent(name="a"), {"input": 3}, "input is a function, not int"),
        (Agent(name="a"), {"effects": "read"}, "effects is {tool: effect}, not str"),
        (Agent(name="a"), {"effects": {"look": "boom"}}, "'boom', which is none of read, idempotent"),
        (Agent(name="a"), {"effects": {"look": "read"}}, "names 'look', and the agent has no such tool"),
        (Agent(name="a", tools=[LocalShellTool(executor=str)]), {}, "a LocalShellTool would be made again"),
    ],
)
def test_what_no_run_could_use_is_refused_where_it_is_declared(given: Any, options: Any, why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        openai_agents(given, **options)


def test_without_a_message_it_names_what_it_needs(model: ModelServer) -> None:
    error = run(agent("chat")(openai_agents(chat())), {}).error
    assert error is not None
    assert error["code"] == "invalid_input"
