"""A conversation that waits for an answer while every process is killed, and goes on where it was, elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.model_server import ModelServer, calls, reply, results_of, text_of
from tests.stack import Stack

TOOLS = """
from pathlib import Path
from runyard import tool

@tool(effect="irreversible")
async def reserve(seat: str) -> str:
    "Reserve a seat."
    with (Path(__file__).parent / "reserved").open("a") as file:
        file.write(seat + ";")
    return f"seat {seat} is reserved"
"""
MANIFEST = {"name": "@test/desk", "instructions": "You are a ticket desk.", "tools": ["reserve", "ask_user"]}


@pytest.mark.timeout(300)
def test_it_is_answered_after_a_restart_of_everything_on_another_worker_with_its_whole_history(
    tmp_path: Path,
) -> None:
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "tools.py").write_text(TOOLS)
    with ModelServer() as model:
        settings: dict[str, Any] = {"RUNYARD_MODEL": "openai:scripted", "RUNYARD_MODEL_BASE_URL": model.url}
        settings["RUNYARD_PUBLIC_TOOLS"] = "reserve"  # the developer publishes the agent, not the workers
        with Stack(tmp_path, agents=[str(agents)], **settings) as stack:
            status, made = stack.request("POST", "/api/v1/agents/manifests", MANIFEST)
            assert status == 201, made
            model.answer(reply("Hello Ada."))
            greeted = stack.submit("@test/desk", session_id="ada", query="I am Ada.")
            stack.until(greeted, "completed", seconds=60)
            model.answer(calls(reserve={"seat": "12A"}), calls(ask_user={"question": "Which name on it?"}))
            task_id = stack.submit("@test/desk", session_id="ada", query="A seat, please.")
            waiting = stack.until(task_id, "waiting_for_input", seconds=60)
            first = waiting["attempt"]

            for name in list(stack.processes):
                stack.kill(name)
            model.answer(reply("Done, Ada."))
            for name in ("api-1", "scheduler-1", "worker-2"):
                stack.start(name)
            stack.wait_ready()
            assert stack.task(task_id)["status"] == "waiting_for_input"
            status, answer = stack.request("POST", f"/tasks/{task_id}/message", {"message": "Mine: Ada"})
            assert status == 202, answer
            task = stack.until(task_id, "completed", seconds=60)

    assert (task["output"], task["attempt"]) == ("Done, Ada.", first + 1)
    assert (agents / "reserved").read_text() == "12A;"
    request = model.requests[-1]
    users = [text_of(message) for message in request["messages"] if message["role"] == "user"]
    assert users == ["I am Ada.", "A seat, please."]
    assert next(text_of(m) for m in request["messages"] if m["role"] == "assistant") == "Hello Ada."
    reserved, answered = results_of(request)
    assert ("12A" in reserved, "Mine: Ada" in answered) == (True, True)
    assert len(model.requests) == 4  # no turn was asked again
