"""LangGraph graphs as durable agents, against the real library: `runyard.adapters.langgraph`."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from runyard import Context, agent, authoring
from runyard.adapters import langgraph
from runyard.testing import Outcome, approve, arun, edit, reject, run
from runyard_common.sessions.queries import sessions
from tests.fakes.model_server import ModelServer, calls, results_of
from tests.installation import Installation

pytestmark = pytest.mark.timeout(180)
#: Far more writes than any of these runs has.
MOST_WRITES = 60


@pytest.fixture(autouse=True)
def agents() -> Iterator[None]:
    """What a test registers is its own."""
    before = authoring.registered()
    yield
    authoring.restore(before)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        monkeypatch.setenv("LANGSMITH_TRACING", "false")
        yield server


@pytest.fixture
async def support(model: ModelServer) -> AsyncIterator[ModuleType]:
    """The authors' module, imported as it is, with its model behind the scripted server."""
    name = "tests.fakes.authors.support_graph"
    sys.modules.pop(name, None)
    model.respond = support_desk
    module = importlib.import_module(name)
    yield module
    sys.modules.pop(name, None)
    await module.HTTP.aclose()


def support_desk(request: dict[str, Any]) -> Any:
    """What the model of the support desk answers: it follows from the conversation."""
    results = results_of(request)
    if not results:
        return calls(find_order={"order": "A7"}, text="Let me look.")
    if len(results) == 1:
        return calls(refund={"order": "A7", "amount": 40})
    return calls(Resolution={"refunded": 25, "note": results[-1]})


def asked_once(model: ModelServer) -> bool:
    """Whether no conversation came to the model a second time."""
    seen = [json.dumps(request["messages"], sort_keys=True) for request in model.requests]
    return len(seen) == len(set(seen))


async def crashed_all_along(fn: Any, **more: Any) -> AsyncIterator[Outcome]:
    """The outcomes of runs whose process is lost after each write, after every second, and so on."""
    for writes in (1, 2, 3, 5):
        outcome = await arun(fn, crash_after=[writes] * (MOST_WRITES // writes), **more)
        assert outcome.status == "completed", outcome.error
        assert writes > 3 or outcome.attempts > 6
        yield outcome


@pytest.mark.anyio
async def test_a_support_desk_runs_its_tools_an_approval_and_structured_output(
    support: ModuleType, model: ModelServer
) -> None:
    desk = agent("support")(langgraph(support.graph))
    outcome = await arun(desk, message="My lamp A7 is broken.", answers=[edit({"order": "A7", "amount": 25})])
    assert outcome.status == "completed", outcome.error
    assert outcome.asked == ("Approve: refund",)
    assert support.CALLS == ["find_order A7", "refund A7 25"]
    assert outcome.output["refunded"] == 25
    assert "25 paid back" in outcome.output["note"]
    assert "".join(outcome.tokens).startswith("Let me look.")
    steps = [event["name"] for event in outcome.of_type("step")]
    assert [name for name in steps if name in ("model", "tools")] == [
        "model",
        "tools",
        "model",
        "tools",
        "model",
    ]
    assert outcome.usage["turns"] == 3
    assert outcome.usage["input_tokens"] > 0
    assert asked_once(model)


@pytest.mark.anyio
async def test_a_rejected_call_goes_back_to_the_model_with_the_reason(
    support: ModuleType, model: ModelServer
) -> None:
    desk = agent("support")(langgraph(support.graph, output="structured_response"))
    outcome = await arun(desk, message="Broken.", answers=[reject("too much")])
    assert outcome.output["refunded"] == 25
    assert "too much" in outcome.output["note"]
    assert support.CALLS == ["find_order A7"]


@pytest.mark.anyio
async def test_killed_at_every_journal_write_no_tool_runs_and_no_model_is_asked_twice(
    support: ModuleType, model: ModelServer
) -> None:
    desk = agent("support")(langgraph(support.graph))

    async for outcome in crashed_all_along(desk, message="Broken.", answers=[approve()]):
        assert support.CALLS == ["find_order A7", "refund A7 40"]
        assert len(model.requests) == 3
        assert asked_once(model)
        assert outcome.usage["turns"] == 3
        assert outcome.output == {"refunded": 25.0, "note": "40 paid back"}
        support.CALLS.clear()
        model.requests.clear()


REPORT = {"notes": ["cost known", "cost yes", "risk known", "risk no", "weighed"]}
NODES = {"confirm cost", "confirm risk", "look cost", "look risk", "plan", "weigh", "write"}
ANSWERS = {
    "Is the cost right?": "yes",
    "Is the risk right?": "no",
    "Title?": "Plan",
    "Tone?": "dry",
}


@pytest.mark.anyio
async def test_parallel_nodes_subgraphs_and_their_questions_survive_a_loss_at_every_write() -> None:
    from tests.fakes.authors import report_graph

    report = agent("report")(langgraph(report_graph.graph))
    async for outcome in crashed_all_along(report, args={"topic": "lamps"}, answers=ANSWERS):
        assert set(report_graph.CALLS) == NODES
        assert outcome.output["report"] == f"Plan (dry): {', '.join(sorted(outcome.output['notes']))}"
        assert sorted(outcome.output["notes"]) == sorted(REPORT["notes"])
        assert sorted(outcome.asked) == sorted(ANSWERS)


def test_questions_of_parallel_nodes_are_asked_together_and_finished_nodes_do_not_run_again() -> None:
    from tests.fakes.authors import report_graph

    report_graph.CALLS.clear()
    report = agent("report")(langgraph(report_graph.graph))
    outcome = run(report, args={"topic": "lamps"}, answers=ANSWERS)
    assert sorted(report_graph.CALLS) == sorted(NODES)
    assert outcome.attempts == 4  # two questions at once, then two of one node, one after the other
    streamed = [event["data"]["looking at"] for event in outcome.of_type("custom")]
    assert sorted(streamed) == ["cost", "risk"]  # the nodes run side by side


class Count(TypedDict, total=False):
    n: int


def counting(**compiled: Any) -> Any:
    """A graph of two nodes that add one each."""

    def add(state: Count) -> Count:
        return {"n": state.get("n", 0) + 1}

    return (
        StateGraph(Count)
        .add_node("a", add)
        .add_node("b", add)
        .add_edge(START, "a")
        .add_edge("a", "b")
        .compile(**compiled)
    )


def test_a_graph_stops_for_a_review_where_it_was_compiled_to_stop() -> None:
    counted = agent("counted")(langgraph(counting(interrupt_before=["b"])))
    outcome = run(counted, {"n": 1}, answers=[approve()])
    assert outcome.output == {"n": 3}
    assert outcome.asked == ("Approve: run b",)
    assert run(counted, {"n": 1}, answers=[reject("no")]).error["code"] == "rejected"  # type: ignore[index]


def test_what_cannot_be_run_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ValueError, match="interrupt_after"):
        langgraph(counting(interrupt_after=["a"]))
    with pytest.raises(TypeError, match="call compile"):
        langgraph(StateGraph(Count))  # type: ignore[arg-type]
    wrong: list[dict[str, Any]] = [{"input": 1}, {"output": 5}, {"context": "x"}, {"config": "x"}]
    for options in wrong:
        with pytest.raises(TypeError, match=f"{next(iter(options))} is "):
            langgraph(counting(), **options)
    with pytest.raises(TypeError, match="LangGraphAgent runs with isolation='loop', not 'process'"):
        agent("@graphs/apart", isolation="process")(langgraph(counting()))


@pytest.mark.anyio
async def test_a_session_continues_the_thread_of_its_last_completed_run(tmp_path: Path) -> None:
    def respond(state: MessagesState) -> Any:
        if "fail" in state["messages"][-1].text:
            raise ValueError("asked to")
        return {"messages": [("ai", f"{len(state['messages'])} so far")]}

    graph = StateGraph(MessagesState).add_node("respond", respond).add_edge(START, "respond").compile()
    async with Installation(f"sqlite:///{tmp_path}/runyard.db", files=tmp_path / "files") as site:
        await site.engine()
        chat = site.publish(langgraph(graph), "@test/chat")
        session = site.transact(lambda tx: sessions.ensure(tx, site.org, "one"))
        other = site.transact(lambda tx: sessions.ensure(tx, site.org, "two"))

        async def sent(message: str, session_id: str | None) -> Any:
            return (await site.ended(await site.submit(chat, None, message, session_id=session_id))).output

        assert await sent("a", session) == "1 so far"
        assert await sent("please fail", session) is None
        assert await sent("b", session) == "3 so far"
        assert await sent("c", session) == "5 so far"
        assert await sent("d", other) == "1 so far"
        assert await sent("e", None) == "1 so far"


def test_a_node_that_failed_runs_again_and_the_others_do_not() -> None:
    ran: list[str] = []

    def first(state: Count) -> Count:
        ran.append("first")
        return {"n": 1}

    def second(state: Count) -> Count:
        ran.append("second")
        if len(ran) < 4:
            raise ValueError("not yet")
        return {"n": state["n"] + 1}

    graph = (
        StateGraph(Count)
        .add_node(first)
        .add_node(second)
        .add_edge(START, "first")
        .add_edge("first", "second")
        .compile()
    )
    flaky = agent("flaky", retries=3)(langgraph(graph))
    outcome = run(flaky, {})
    assert outcome.output == {"n": 2}
    assert ran == ["first", "second", "second", "second"]
    ran.clear()
    failed = run(agent("fails")(langgraph(graph)), {})
    assert failed.error is not None
    assert failed.error["code"] == "agent_error"
    assert "ValueError: not yet" in failed.error["message"]


def test_a_graph_without_an_end_fails_with_its_recursion_limit() -> None:
    graph = (
        StateGraph(Count)
        .add_node("a", lambda state: {"n": 1})
        .add_edge(START, "a")
        .add_edge("a", "a")
        .compile()
    )
    endless = agent("endless")(langgraph(graph, config={"recursion_limit": 5}))
    outcome = run(endless, {})
    assert outcome.error is not None
    assert outcome.error["code"] == "recursion_limit"


def test_the_functional_api_resumes_after_its_finished_tasks() -> None:
    ran: list[str] = []

    @task
    async def square(n: int) -> int:
        ran.append(f"square {n}")
        return n * n

    @entrypoint()
    async def squares(given: dict[str, Any]) -> dict[str, Any]:
        found = [await square(n) for n in given["of"]]
        return {"sum": sum(found), "sent": interrupt(f"{sum(found)}?")}

    summed = agent("summed")(langgraph(squares))
    assert run(summed, {"of": [1, 2, 3]}, answers=["yes"]).output == {"sum": 14, "sent": "yes"}
    assert ran == ["square 1", "square 2", "square 3"]


def test_calls_of_the_context_inside_a_node_are_refused() -> None:
    @agent("inside")
    async def inside(ctx: Context, args: dict[str, Any]) -> Any:
        async def node(state: Count) -> Count:
            return {"n": await ctx.step("one", lambda: 1)}

        graph = StateGraph(Count).add_node(node).add_edge(START, "node").compile()
        return await langgraph(graph).run(ctx, {})

    outcome = run(inside, {})
    assert outcome.error is not None
    assert "ctx.step cannot be called inside LangGraph" in outcome.error["message"]


def test_a_graph_is_a_part_of_an_agents_own_function() -> None:
    graph = counting()

    @agent("twice")
    async def twice(ctx: Context, args: dict[str, Any]) -> Any:
        adapted = langgraph(graph)
        once = await adapted.run(ctx, {"n": await ctx.step("begin", lambda: 10)})
        await ctx.log(f"{once['n']}")
        again = await adapted.run(ctx, once)
        await ctx.ask("Go on?")
        await ctx.log(f"{again['n']}")
        return again

    for write in range(1, 12):
        outcome = run(twice, {}, answers=["yes"], crash_after=write)
        assert outcome.output == {"n": 14}
        assert [line["message"] for line in outcome.of_type("log")] == ["12", "14"]
