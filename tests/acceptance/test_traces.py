"""One declared run over real processes, with a tool call, a killed worker, a question, a child and a webhook, as the
tree of spans that a collector gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.collector import Collector, missing_parents, tree
from tests.delivering import ReceiverProcess
from tests.fakes.model_server import ModelServer, calls, reply
from tests.stack import Stack
from tests.waiting import wait_until

TOOLS = """
import asyncio
from pathlib import Path
from runyard import tool

@tool(effect="read")
async def lookup(order: str) -> str:
    "Look an order up."
    here = Path(__file__).parent
    if not (here / "again").exists():
        (here / "begun").touch()
        await asyncio.Event().wait()
    return f"order {order} is on its way, secret-of-the-order"
"""
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.timeout(300)
def test_a_declared_run_with_a_question_a_crash_and_a_child_is_one_tree(tmp_path: Path) -> None:
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "tools.py").write_text(TOOLS)
    receiver = ReceiverProcess(tmp_path / "received")
    with ModelServer() as model, Collector() as collector:
        settings: dict[str, Any] = {
            "RUNYARD_MODEL": "openai:scripted",
            "RUNYARD_MODEL_BASE_URL": model.url,
            "RUNYARD_PUBLIC_TOOLS": "lookup",
            "RUNYARD_LEASE_SECONDS": "3",
        }
        with Stack(tmp_path, agents=[str(agents)], **settings | collector.env) as stack:
            for name, tools in (("@test/helper", []), ("@test/desk", ["lookup", "ask_user", "@test/helper"])):
                manifest = {"name": name, "instructions": "You are a desk.", "tools": tools}
                status, made = stack.request("POST", "/api/v1/agents/manifests", manifest)
                assert status == 201, made
            model.when("help me", reply("helped"))
            model.answer(calls(lookup={"order": "A1"}))
            body = {"query": "Where is A1?", "callback": {"url": receiver.url("/hook")}}
            status, answer = stack.request(
                "POST", "/api/v1/agents/@test/desk/run", body, headers={"traceparent": CALLER}
            )
            assert status == 202, answer
            task_id = answer["task_id"]
            wait_until((agents / "begun").exists, seconds=60)
            collector.until(lambda spans: any(span.name.startswith("chat") for span in spans))
            stack.kill("worker-1")
            (agents / "again").touch()
            model.answer(calls(ask_user={"question": "Which address?"}))
            stack.start("worker-2")
            stack.until(task_id, "waiting_for_input", seconds=90)
            model.answer(calls(helper={"message": "help me"}), reply("Done."))
            status, answer = stack.request("POST", f"/tasks/{task_id}/message", {"message": "Mine"})
            assert status == 202, answer
            assert stack.until(task_id, "completed", seconds=90)["output"] == "Done."
            stack.request("GET", f"/tasks/{task_id}", headers={"traceparent": CALLER})
            expected = {"deliver agent_completed", "invoke_agent @test/desk", "GET /tasks/{task_id}"}
            spans = collector.until(
                lambda spans: expected <= {span.name for span in spans},
                seconds=15,
            )
    receiver.stop()
    assert [span.trace for span in spans if span.name.startswith("GET ")] == [
        CALLER.split("-")[1]
    ]  # not the polls
    print(tree([span for span in spans if span.trace == CALLER.split("-")[1]]))
    spans = [span for span in spans if span.trace == CALLER.split("-")[1]]
    request, root = (
        next(span for span in spans if span.name == name)
        for name in ("POST /agents/{agent:agent}/run", "invoke_agent @test/desk")
    )
    assert (request.parent, root.parent) == (CALLER.split("-")[2], request.id)
    assert sorted(missing_parents(spans)) == ["GET /tasks/{task_id}", request.name]
    by_id = {span.id: span for span in spans}
    parents = {(span.name, by_id[span.parent].name) for span in spans if span.parent in by_id}
    assert {
        ("wake-up", root.name),
        ("attempt 1", root.name),
        ("claim", root.name),
        ("chat scripted", "attempt 1"),
        ("execute_tool lookup", "attempt 2"),
        ("execute_tool ask_user", "attempt 2"),
        ("invoke_agent @test/helper", "attempt 3"),
        ("wake-up", "invoke_agent @test/helper"),
        ("attempt 1", "invoke_agent @test/helper"),
        ("deliver agent_completed", root.name),
    } <= parents
    woken = {(s.attributes["runyard.event"], s.service) for s in spans if s.name == "wake-up"}
    assert woken >= {
        ("submit", "runyard-api"),
        ("submit", "runyard-worker"),  # the child
        ("admit", "runyard-scheduler"),  # after the crash
    }
    lost = next(span for span in spans if span.name == "attempt 1" and span.parent == root.id)
    assert (lost.attributes["error.type"], lost.service) == ("worker_lost", "runyard-scheduler")
    chat = next(span for span in spans if span.name == "chat scripted")
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.usage.input_tokens"] > 0
    assert {span.service for span in spans} == {"runyard-api", "runyard-worker", "runyard-scheduler"}
    assert "secret-of-the-order" not in repr(spans)
    sent = {one.headers.get("traceparent", "").split("-")[1] for one in receiver.received}
    assert sent == {root.trace}
