"""Every tool call of a run has its end, in agentbase's stream and in the native log, however it ends (case s-10)."""

from __future__ import annotations

import json
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.callbacks import complete, receiver
from tests.contract.frames import Frames, run, streaming
from tests.contract.live import Live, unique
from tests.fakes.mcp_servers import mcp_process
from tests.fakes.model_server import calls, reply
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def natively(admin: httpx2.Client, frames: Frames, type_: str) -> list[dict[str, Any]]:
    """The data of the run's native events of one type."""
    task = frames.events[0]["task_id"]
    found = admin.get(f"/api/v1/tasks/{task}/events", headers={"accept": "application/json"})
    return [event["data"] for event in found.json()["data"] if event["type"] == type_]


def paired(admin: httpx2.Client, frames: Frames) -> list[tuple[str, Any]]:
    """The tools and results of the stream, every use of which must have its response, natively too."""
    used = [json.loads(e["content"])["tool"] for e in frames.events if e["type"] == "agent_tool_use"]
    answered = [json.loads(e["content"]) for e in frames.events if e["type"] == "agent_tool_response"]
    assert sorted(used) == sorted(one["tool"] for one in answered) != []
    made, ended = natively(admin, frames, "tool_call"), natively(admin, frames, "tool_result")
    assert sorted(one["id"] for one in made) == sorted(one["id"] for one in ended)
    return [(one["tool"], one["content"]) for one in answered]


@pytest.fixture(scope="module")
def database(admin: httpx2.Client, live: Live) -> dict[str, str]:
    """A database datastore with a table of users."""
    folder = live.home.resolve() / "datastores" / live.org_id
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "users.db") as made:
        made.execute("CREATE TABLE users (id INTEGER)")
    made.close()
    body = {"name": "users", "type": "database", "metadata": {"connectionString": "sqlite:///users.db"}}
    return {"id": admin.post("/create-datastore", json=body).json()["datastore_id"], "name": "users"}


def test_a_call_with_wrong_arguments_ends_with_its_refusal(
    admin: httpx2.Client, live: Live, database: dict[str, str]
) -> None:
    question = unique("wrong parameters")
    live.model.when(question, calls(byId={"params": 1}), reply("ok"))
    query = {"name": "byId", "description": "One.", "query": "SELECT * FROM users WHERE id = ?"}

    frames = run(admin, question, datastores=[database], queries=[query])

    [(tool, content)] = paired(admin, frames)
    assert tool == "byId"
    assert "Wrong arguments" in content
    assert "Fix the errors" not in content
    assert [one["outcome"] for one in natively(admin, frames, "tool_result")] == ["failed"]
    assert frames.types[-1] == "agent_completed"


def test_arguments_that_are_no_object_end_with_a_refusal_too(
    admin: httpx2.Client, live: Live, database: dict[str, str]
) -> None:
    question = unique("no object")
    live.model.when(question, calls(all=[1]), reply("ok"))  # type: ignore[arg-type]
    query = {"name": "all", "description": "All.", "query": "SELECT * FROM users"}

    paired(admin, run(admin, question, datastores=[database], queries=[query]))


def test_a_call_of_an_mcp_tool_with_wrong_types_ends_with_its_refusal(
    admin: httpx2.Client, live: Live, tmp_path: Path
) -> None:
    question = unique("wrong types")
    live.model.when(question, calls(crm_find_customer={"name": 5}), reply("ok"))
    with mcp_process(tmp_path) as server:
        frames = run(admin, question, mcp_servers=[{"serverName": "crm", "serverUrl": server.url}])

    [(tool, content)] = paired(admin, frames)
    assert tool == "crm_find_customer"
    assert "string" in content


def test_a_call_of_a_tool_that_does_not_exist_leaves_its_call_and_its_refusal(
    admin: httpx2.Client, live: Live
) -> None:
    question = unique("no such tool")
    live.model.when(question, calls(imagined={"a": 1}), reply("ok"))

    frames = run(admin, question)

    [(tool, content)] = paired(admin, frames)
    assert tool == "imagined"
    assert "imagined" in content
    assert frames.types[1:3] == ["agent_tool_use", "agent_tool_response"]
    assert [one["source"] for one in natively(admin, frames, "tool_call")] == ["unknown"]


def test_calls_are_closed_when_the_model_never_keeps_to_its_tools(admin: httpx2.Client, live: Live) -> None:
    question = unique("never learns")
    live.model.when(question, calls(imagined={}), forever=True)

    frames = run(admin, question)

    assert len(paired(admin, frames)) > 3
    assert frames.events[-1]["code"] == "model_misbehaved"


def test_calls_beside_a_hand_off_are_closed(admin: httpx2.Client, live: Live) -> None:
    question = unique("both")
    live.model.when(question, calls(transfer_to_Sales={}, imagined={}), reply("Sold."))

    frames = run(admin, question, agents=[{"name": "Sales", "description": "Sells."}])

    assert [tool for tool, _ in paired(admin, frames)] == ["imagined"]
    assert frames.text() == "Sold."


def test_the_history_has_the_refused_call_and_its_result(admin: httpx2.Client, live: Live) -> None:
    question = unique("history")
    live.model.when(question, calls(imagined={"a": 1}), reply("ok"))

    frames = run(admin, question)

    path = f"/api/v1/sessions/{frames.events[0]['session']}/messages"
    types = [line["type"] for line in admin.get(path).json()["data"]]
    assert types == ["user_message", "agent_tool_use", "agent_tool_response", "agent_response"]


def test_a_call_under_way_is_closed_when_its_run_is_stopped(
    admin: httpx2.Client, live: Live, tmp_path: Path
) -> None:
    barrier, question = tmp_path / "never", unique("stopped in a tool")
    live.model.when(question, calls(gated={"message": str(barrier)}))
    made = admin.post(
        "/api/v1/agents/manifests",
        json={"name": f"@calls/{uuid.uuid4().hex[:8]}", "version": "1.0.0", "tools": ["@default/gated"]},
    ).json()

    with streaming(admin, question, params={"agent": made["name"]}) as frames:
        frames.until("agent_tool_use")
        admin.post(f"/api/v1/tasks/{frames.events[0]['task_id']}/cancel")
        frames.until("agent_error")

    assert frames.types[-4:] == ["agent_tool_response", "agent_step", "agent_cost", "agent_error"]


def runs_of(admin: httpx2.Client, **manifest: Any) -> str:
    """A new agent whose tools never answer by themselves; its name."""
    whole = {"name": f"@calls/{uuid.uuid4().hex[:8]}", "version": "1.0.0"} | manifest
    admin.post("/api/v1/agents/manifests", json=whole).raise_for_status()
    return str(whole["name"])


#: How a run ends in the middle of a call: the agent, the call, what the request adds, and the outcome and code shown.
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str, str]] = {
    "stopped in a tool": ({"tools": ["@default/gated"]}, {"gated": {"message": "/never"}}, {}, "stopped", "stopped"),
    "out of time in a tool": (
        {"tools": ["@default/gated"]}, {"gated": {"message": "/never"}}, {"deadline": 2}, "failed", "deadline_exceeded",
    ),
    "stopped while it asks": (
        {"tools": ["ask_user"]}, {"ask_user": {"question": "Why?"}}, {}, "stopped", "stopped",
    ),
    "asked and never answered": (
        {"tools": ["ask_user"], "config": {"ask": {"timeout": 1}}}, {"ask_user": {"question": "Why?"}}, {}, "failed",
        "answer_timeout",
    ),
    "not reviewed before its deadline": (
        {"tools": ["@default/gated"], "review": ["gated"]}, {"gated": {"message": "/never"}}, {"deadline": 2}, "failed",
        "deadline_exceeded",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(ENDS))
def test_a_call_cut_off_is_shown_as_ended_in_the_log_the_stream_and_callbacks(
    case: str, admin: httpx2.Client, live: Live, tmp_path: Path
) -> None:
    manifest, call, more, outcome, code = ENDS[case]
    question, name = unique(case), runs_of(admin, **manifest)
    live.model.when(question, calls(**call))

    with receiver(tmp_path) as url:
        body = {"query": question, "callback": {"url": url}} | more
        task_id = admin.post(f"/api/v1/agents/{name}/run", json=body).json()["task_id"]
        wait_until(lambda: "tool_call" in types_of(admin, task_id), seconds=30)
        if outcome == "stopped":
            admin.post(f"/tasks/{task_id}/cancel").raise_for_status()
        ended = wait_until(lambda: log_with_an_end(admin, task_id), seconds=30)
        posts = wait_until(lambda: complete(tmp_path / "posts"), seconds=30)

    assert ended
    assert posts
    [made] = [event for event in ended if event["type"] == "tool_call"]
    [result] = [event for event in ended if event["type"] == "tool_result"]
    assert {result["data"][name] == made["data"][name] for name in ("turn", "id", "tool")} == {True}
    assert (result["data"]["outcome"], result["data"].get("code")) == (outcome, code), result
    assert result["data"]["seconds"] >= 0
    assert result["seq"] + 1 == ended[-1]["seq"], "the call ends before its run does"
    assert [event["seq"] for event in ended] == list(range(1, len(ended) + 1))
    assert streamed(admin, task_id) == [event["type"] for event in ended]
    posted = [post.json["type"] for post in posts]
    assert posted.count("agent_tool_use") == posted.count("agent_tool_response") == 1
    assert posted[-3:] == ["agent_tool_response", "agent_error", posted[-1]]


def log_of(admin: httpx2.Client, task_id: str) -> list[dict[str, Any]]:
    found = admin.get(f"/tasks/{task_id}/events", headers={"accept": "application/json"}).json()
    return list(found["data"])


def types_of(admin: httpx2.Client, task_id: str) -> list[str]:
    return [event["type"] for event in log_of(admin, task_id)]


def log_with_an_end(admin: httpx2.Client, task_id: str) -> list[dict[str, Any]]:
    """The run's log, once it has ended."""
    found = log_of(admin, task_id)
    return found if found and found[-1]["type"] in ("stop", "fail", "expire") else []


def streamed(admin: httpx2.Client, task_id: str) -> list[str]:
    """The types of the events in the run's stream, from its beginning."""
    headers = {"accept": "text/event-stream"}
    with admin.stream("GET", f"/tasks/{task_id}/events", headers=headers) as answer:
        lines = list(answer.iter_lines())
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return [event["type"] for event in events if "type" in event]
