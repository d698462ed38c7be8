"""Agents of the OpenAI Agents SDK as durable agents, against the real library: `runyard.adapters.openai_agents`."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    ToolOutputText,
    function_tool,
    set_default_openai_api,
    set_trace_processors,
)
from agents.mcp import MCPServerStreamableHttp
from agents.models import _openai_shared
from agents.tracing import TracingProcessor, get_trace_provider
from openai import AsyncOpenAI
from pydantic import BaseModel

from runyard import Context, agent, authoring
from runyard.adapters import openai_agents
from runyard.testing import approve, edit, reject, run
from runyard_common.human_tasks.service import answers
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.sessions.queries import sessions
from tests.fakes.mcp_servers import mcp_process
from tests.fakes.model_server import ModelServer, Reply, calls, fail, reply, results_of, system_of
from tests.installation import Installation

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


@pytest.fixture
def support(model: ModelServer) -> Iterator[ModuleType]:
    """The authors' module, imported as it is, with its model behind the scripted server."""
    name = "tests.fakes.authors.support_agents"
    sys.modules.pop(name, None)
    model.respond = support_desk
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def support_desk(request: dict[str, Any]) -> Reply:
    """What the models of the support desk answer: it follows from the conversation."""
    results = results_of(request)
    if "Is this for a shop?" in system_of(request):
        return reply(json.dumps({"off_topic": "weather" in json.dumps(request["messages"])}))
    if "in stock" in system_of(request):
        return reply("Three lamps.")
    if "first to answer" in system_of(request):
        if not results:
            return calls(find_order={"order": "A7"}, text="Let me look.")
        return calls(transfer_to_refunds={})
    if len(results) == 2:
        return calls(refund={"order": "A7", "amount": 40}, ask_stock={"input": "Lamps?"})
    return reply(json.dumps({"refunded": 25, "note": results[-1]}))


def asked_once(model: ModelServer) -> bool:
    """Whether no conversation came to the model a second time."""
    seen = [json.dumps(request["messages"], sort_keys=True) for request in model.requests]
    return len(seen) == len(set(seen))


def test_a_support_desk_hands_over_runs_tools_an_approval_and_structured_output(
    support: ModuleType, model: ModelServer
) -> None:
    desk = agent("support")(openai_agents(support.triage))
    outcome = run(desk, message="My lamp A7 is broken.", answers=[edit({"order": "A7", "amount": 25})])
    assert outcome.status == "completed", outcome.error
    assert outcome.asked == ("Approve the call of refund.",)
    assert support.CALLS == ["find_order A7", "refund A7 25"]
    assert outcome.output == {"refunded": 25.0, "note": "25 paid back"}
    assert "Let me look." in "".join(outcome.tokens)
    assert asked_once(model)
    assert outcome.usage["turns"] == len(model.requests) == 6
    assert outcome.usage["input_tokens"] > 0
    called = [event["tool"] for event in outcome.of_type("tool_call")]
    assert called == ["find_order", "transfer_to_refunds", "refund", "ask_stock"]
    ended = {event["tool"]: event["outcome"] for event in outcome.of_type("tool_result")}
    assert ended == dict.fromkeys(called, "ok")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("api", "attempt"), [("chat_completions", 0), ("chat_completions", 1), ("responses", 0)]
)
def test_killed_at_every_journal_write_no_tool_runs_and_no_model_is_asked_twice(
    support: ModuleType, model: ModelServer, api: Any, attempt: int
) -> None:
    """`attempt`: 0 until the review is asked for, 1 from its answer on."""
    set_default_openai_api(api)
    desk = agent("support")(openai_agents(support.triage))
    for write in range(1, 100):
        support.CALLS.clear()
        model.requests.clear()
        outcome = run(desk, message="Broken.", answers=[approve()], crash_after=[99] * attempt + [write])
        assert outcome.status == "completed", f"write {write}: {outcome.error}"
        assert outcome.output == {"refunded": 25.0, "note": "40 paid back"}
        assert support.CALLS == ["find_order A7", "refund A7 40"], f"write {write}"
        assert asked_once(model), f"write {write}"
        assert len(model.requests) == outcome.usage["turns"] == 6, f"write {write}"
        if outcome.attempts == 2:  # the attempt made fewer writes than that
            assert write > 4
            return
    raise AssertionError("the run has no end")


def test_a_rejected_call_goes_back_to_the_model_with_the_reason(
    support: ModuleType, model: ModelServer
) -> None:
    desk = agent("support")(openai_agents(support.triage))
    outcome = run(desk, message="Broken.", answers=[reject("too much")])
    assert "too much" in outcome.output["note"]
    assert support.CALLS == ["find_order A7"]


@pytest.mark.parametrize("parallel", [False, True])
def test_a_guardrail_that_trips_fails_the_run_with_its_name(
    support: ModuleType, model: ModelServer, parallel: bool
) -> None:
    support.for_the_desk.run_in_parallel = parallel  # with the turn, which is ended with it
    outcome = run(agent("support")(openai_agents(support.triage)), message="Nice weather.")
    assert outcome.error is not None
    assert outcome.error["code"] == "guardrail_tripped"
    assert outcome.error["details"] == {"guardrail": "for_the_desk", "output_info": {"off_topic": True}}
    if not parallel:  # else the turn may have called its tool by then
        assert support.CALLS == []


def chat(**options: Any) -> Agent[Any]:
    """An agent that answers."""
    set_default_openai_api("chat_completions")
    return Agent(**{"name": "chat", "model": "test-model", **options})


def test_a_session_continues_with_the_items_of_its_last_completed_run(
    model: ModelServer, tmp_path: Path
) -> None:
    @function_tool
    def look() -> str:
        return "red"

    def respond(request: dict[str, Any]) -> Reply:
        asked = [m["content"] for m in request["messages"] if m["role"] == "user"]
        if asked[-1] == "fail":
            return fail(400)
        return calls(look={}) if request["messages"][-1]["role"] == "user" else reply(" ".join(asked))

    async def main() -> None:
        async with Installation(f"sqlite:///{tmp_path}/runyard.db", files=tmp_path / "files") as site:
            await site.engine()
            name = site.publish(openai_agents(chat(tools=[look])), "@test/chat")
            one = site.transact(lambda tx: sessions.ensure(tx, site.org, "one"))
            other = site.transact(lambda tx: sessions.ensure(tx, site.org, "two"))

            async def sent(message: str, session_id: str | None) -> Any:
                task = await site.submit(name, None, message, session_id=session_id)
                return (await site.ended(task)).output

            assert await sent("a", one) == "a"
            assert await sent("fail", one) is None
            assert await sent("b", one) == "a b"
            assert len(results_of(model.requests[-1])) == 2  # calls and results are items, too
            assert await sent("c", one) == "a b c"
            assert await sent("d", other) == "d"
            assert await sent("e", None) == "e"

            async def waits(ctx: Context, args: Any) -> Any:
                await adapted.run(ctx, "first")
                await ctx.ask("Go on?")
                return (await adapted.run(ctx, "last")).final_output

            adapted = openai_agents(chat(tools=[look]))
            waiting = site.publish(waits, "@test/waits")
            again = await site.submit(waiting, None, "w", session_id=other)
            await site.until(again, Status.WAITING_FOR_INPUT)
            another = await site.submit(waiting, None, "w", session_id=other)
            await site.until(another, Status.WAITING_FOR_INPUT)
            for task in (another, again):
                answer = partial(answers.post_message, org_id=site.org, task_id=task, value="Yes.", by="me")
                site.transact(answer)
                ended = await site.ended(task)
            assert ended.output == "d first last"  # that the other has ended meanwhile changes nothing

    model.respond = respond
    asyncio.run(main())


def test_a_session_begins_with_the_messages_of_its_conversation_and_survives_a_kill(
    model: ModelServer,
) -> None:
    model.respond = lambda request: reply(json.dumps([m["content"] for m in request["messages"]]))
    history = [
        {"role": "user", "type": "user_message", "content": "I am Ada."},
        {"role": "assistant", "type": "agent_response", "content": "Hello, Ada."},
    ]
    named = agent("named")(openai_agents(chat()))
    for write in range(1, 6):
        outcome = run(named, {"message": "Who am I?"}, history=history, crash_after=[write])
        assert json.loads(outcome.output) == ["I am Ada.", "Hello, Ada.", "Who am I?"]
    assert outcome.attempts == 1


@agent("@openai/two")
async def two(ctx: Context, args: Any) -> Any:
    """Two runs in a function of one's own, which are one conversation where it has one."""
    adapted = openai_agents(chat(), stream=False)
    first = await adapted.run(ctx, "One.")
    await ctx.ask("Go on?")
    second = await adapted.run(ctx, "Two.", max_turns=3)
    return [first.final_output, second.final_output, second.context_wrapper.usage.requests]


@pytest.mark.parametrize("crash", [[], [2], [4], [6]])
def test_within_a_function_of_ones_own_several_runs_are_journaled(
    model: ModelServer, crash: list[int]
) -> None:
    model.respond = lambda request: reply(str(len(request["messages"])))
    outcome = run(two, answers=["yes"], crash_after=crash)
    assert outcome.output == ["1", "1", 1]
    assert len(model.requests) == 2
    history = [{"role": "user", "type": "user_message", "content": "Hello."}]
    outcome = run(two, answers=["yes"], crash_after=crash, history=history)
    assert outcome.output == ["2", "4", 1]


class Shelf(BaseModel):
    """What a tool may return."""

    lamps: int


@pytest.mark.parametrize("crash", [[], [2], [3], [4]])
def test_the_model_gets_the_same_text_of_a_result_now_and_on_a_replay(
    model: ModelServer, crash: list[int]
) -> None:
    results: list[Any] = [
        Shelf(lamps=3),
        [Shelf(lamps=1)],
        {"a": 1.5},
        ToolOutputText(text="t"),
        object,
        None,
    ]

    @function_tool
    def look(of: int) -> Any:
        return results[of]

    model.respond = lambda request: (
        reply("done")
        if results_of(request)
        else calls(*[("look", {"of": number}) for number in range(len(results))])
    )
    outcome = run(agent("looking")(openai_agents(chat(tools=[look]))), message="Go.", crash_after=crash)
    assert outcome.output == "done", outcome.error
    expected = ["lamps=3", "[Shelf(lamps=1)]", "{'a': 1.5}", "t", "<class 'object'>", "None"]
    assert results_of(model.requests[-1]) == expected


def test_it_has_the_schemas_of_its_type_unless_another_agent_may_answer() -> None:
    adapted = openai_agents(Agent(name="a", output_type=Shelf))
    assert adapted.output_schema is not None
    assert set(adapted.output_schema["properties"]) == {"lamps"}
    assert set(adapted.input_schema["properties"]) == {"message"}
    assert openai_agents(Agent(name="b", handoffs=[Agent(name="c")])).output_schema is None


def test_the_librarys_own_tracing_sends_nothing(model: ModelServer) -> None:
    traced: list[Any] = []

    class Processor(TracingProcessor):
        def on_trace_start(self, trace: Any) -> None:
            traced.append(trace)

        def on_trace_end(self, trace: Any) -> None: ...
        def on_span_start(self, span: Any) -> None:
            traced.append(span)

        def on_span_end(self, span: Any) -> None: ...
        def shutdown(self) -> None: ...
        def force_flush(self) -> None: ...

    provider = get_trace_provider()
    before = provider._multi_processor._processors  # type: ignore[attr-defined]
    set_trace_processors([Processor()])
    try:
        model.respond = lambda request: reply("done")
        assert run(agent("chat")(openai_agents(chat())), message="Go.").output == "done"
    finally:
        set_trace_processors(list(before))
    assert traced == []


def test_runs_outside_of_runyard_stay_the_librarys_own(model: ModelServer) -> None:
    model.respond = lambda request: reply("done")
    assert run(agent("chat")(openai_agents(chat())), message="Go.").output == "done"

    async def own() -> Any:
        async with AsyncOpenAI(base_url=model.url, api_key="key") as client:
            named = chat(model=OpenAIChatCompletionsModel("test-model", client))
            return (await Runner.run(named, "Go.", run_config=RunConfig(tracing_disabled=True))).final_output

    assert asyncio.run(own()) == "done"
    assert len(model.requests) == 2


@pytest.mark.processes
def test_tools_of_an_mcp_server_are_called_once_and_it_is_connected_while_runs_use_it(
    model: ModelServer, tmp_path: Path
) -> None:
    with mcp_process(tmp_path) as process:
        approval: Any = {
            "never": {"tool_names": ["find_customer"]},
            "always": {"tool_names": ["send_letter"]},
        }
        crm = MCPServerStreamableHttp({"url": process.url}, name="crm", require_approval=approval)
        clerk = agent("clerk")(openai_agents(chat(mcp_servers=[crm])))
        model.respond = lambda request: [
            calls(find_customer={"name": "Ada"}),
            calls(send_letter={"to": "Bob"}),
            reply(results_of(request)[-1] if results_of(request) else ""),
        ][len(results_of(request))]
        for crash in ([], [5]):
            process.log.unlink(missing_ok=True)
            outcome = run(clerk, message="Write.", answers=[edit({"to": "Ada"})], crash_after=crash)
            assert outcome.status == "completed", outcome.error
            assert "sent to Ada" in outcome.output
            assert process.calls == ["find Ada", "letter Ada"]
            assert crm.session is None
    outcome = run(clerk, message="Write.", answers=[approve()])
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["cause"]) == ("mcp_unreachable", "provider")


@pytest.mark.parametrize("crash", [[], [3], [4], [5], [6]])
def test_an_agent_that_streams_as_a_tool_is_asked_once(model: ModelServer, crash: list[int]) -> None:
    heard: list[str] = []

    async def on_stream(event: Any) -> None:
        heard.append(event["event"].type)

    stock = chat(name="stock", instructions="You know what is in stock.")
    outer = chat(name="outer", tools=[stock.as_tool("ask_stock", "Ask.", on_stream=on_stream)])

    def respond(request: dict[str, Any]) -> Reply:
        if "in stock" in system_of(request):
            return reply("Three lamps.")
        return reply("done") if results_of(request) else calls(ask_stock={"input": "Lamps?"})

    model.respond = respond
    outcome = run(agent("outer")(openai_agents(outer)), message="Go.", crash_after=crash)
    assert outcome.output == "done", outcome.error
    assert results_of(model.requests[-1]) == ["Three lamps."]
    assert len(model.requests) == outcome.usage["turns"] == 3
    assert "raw_response_event" in heard
