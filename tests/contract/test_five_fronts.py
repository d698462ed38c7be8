"""One engine behind five fronts: a run is one task, whichever front started it and whichever made its agent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.contract import frames
from tests.contract.live import MODEL, Live
from tests.fakes.model_server import reply

pytestmark = pytest.mark.timeout(300)

#: What two runs of one agent have of their own; all else is the same by whichever front they came.
OWN = {
    "task_id", "front", "input", "title", "session_id", "links",
    "created_at", "updated_at", "started_at", "finished_at",
}  # fmt: skip
FRONTS = ("native", "nara", "nugen", "agentbase", "appstrate")
MADE_BY = ("manifest", "native", "nugen", "appstrate")


def native(client: httpx2.Client, agent: str, message: str) -> str:
    """Run it through the native API; the task's id, as in the others."""
    answer = client.post(f"/api/v1/agents/{agent}/run", files={"query": (None, message)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def nara(client: httpx2.Client, agent: str, message: str) -> str:
    """Run it through nara."""
    body = {"agentName": agent, "args": {"message": message}}
    answer = client.post("/api/agent/run", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["agentExecutionId"])


def nugen(client: httpx2.Client, agent: str, message: str) -> str:
    """Run it through nugen, which takes normalised names alone."""
    name = agent.rpartition("/")[2].replace("-", "_")
    answer = client.post(f"/api/v3/agents/run-agents/{name}/run", json={"message": message})
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-task-id"])


def agentbase(client: httpx2.Client, agent: str, message: str) -> str:
    """Run it through agentbase, to the end of its stream."""
    read = frames.run(client, message, params={"agent": agent})
    assert read.types[-1] == "agent_completed", read.events
    return str(read.events[0]["task_id"])


def appstrate(client: httpx2.Client, agent: str, message: str) -> str:
    """Run it through appstrate."""
    answer = client.post(f"/api/agents/{agent}/run", json={"input": {"message": message}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["runId"]).removeprefix("exec_")


RUN: dict[str, Callable[[httpx2.Client, str, str], str]] = {
    "native": native,
    "nara": nara,
    "nugen": nugen,
    "agentbase": agentbase,
    "appstrate": appstrate,
}


def through_all(live: Live, client: httpx2.Client, agent: str, message: str) -> dict[str, dict[str, Any]]:
    """The task that each front's run became, once it has ended."""
    started = {front: RUN[front](client, agent, message) for front in FRONTS}
    return {front: live.until(task_id) for front, task_id in started.items()}


def without_its_own(task: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name not in OWN}


def log(client: httpx2.Client, task_id: str) -> list[str]:
    """The types of a task's events."""
    page = client.get(f"/tasks/{task_id}/events", headers={"accept": "application/json"}).json()
    return [event["type"] for event in page["data"]]


def make(client: httpx2.Client, by: str) -> str:
    """Make a declared agent by one of the fronts that can; its full name."""
    name = f"made-by-{by}-{uuid.uuid4().hex[:8]}"
    full = f"@default/{name}"
    prompt = "You answer."
    if by == "manifest":
        body: dict[str, Any] = {"name": full, "version": "1.0.0", "instructions": prompt, "model": MODEL}
        answer = client.post("/api/v1/agents/manifests", json=body)
    elif by == "native":
        body = {"name": name, "system_prompt": prompt, "config": {"model": MODEL}}
        answer = client.post("/api/v1/agents", json=body)
    elif by == "nugen":
        body = {"agent_name": name, "agent_description": "", "model": MODEL, "instructions": prompt}
        answer = client.post("/api/v3/agents/create", json=body)
        full = client.get(f"/api/v1/agents/{answer.json()['data']['id']}").json()["full_name"]
    else:
        body = {"manifest": {"name": full, "version": "1.0.0"}, "content": prompt}
        answer = client.post("/api/packages/agents", json=body)
    assert answer.is_success, answer.text
    return full


@pytest.fixture(scope="module")
def of_code(live: Live, admin: httpx2.Client) -> dict[str, dict[str, Any]]:
    """The tasks of an agent that is code, by front."""
    return through_all(live, admin, "@default/ledger", "add up")


@pytest.fixture(scope="module", params=MADE_BY)
def declared(request: pytest.FixtureRequest, live: Live, admin: httpx2.Client) -> dict[str, dict[str, Any]]:
    """The tasks of a declared agent, by front; once for every front that makes agents."""
    message = f"what is it? {uuid.uuid4().hex}"
    usage = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    live.model.when(message, reply("It is so.", usage=usage), forever=True)
    return through_all(live, admin, make(admin, request.param), message)


class TestTheTask:
    def test_an_agent_that_is_code_makes_the_same_one(self, of_code: dict[str, dict[str, Any]]) -> None:
        first = without_its_own(of_code["native"])
        assert first["status"] == "completed"
        assert first["output"] == {"total": 7}
        for front in FRONTS:
            assert without_its_own(of_code[front]) == first, front

    def test_a_declared_agent_makes_the_same_one(self, declared: dict[str, dict[str, Any]]) -> None:
        first = without_its_own(declared["native"])
        assert (first["status"], first["output"]) == ("completed", "It is so.")
        assert first["usage"]["total_tokens"] == 23
        for front in FRONTS:
            assert without_its_own(declared[front]) == first, front

    def test_it_has_the_same_log(
        self, admin: httpx2.Client, of_code: dict[str, dict[str, Any]], declared: dict[str, dict[str, Any]]
    ) -> None:
        for tasks in (of_code, declared):
            logs = {front: log(admin, task["task_id"]) for front, task in tasks.items()}
            assert logs["native"][0] == "submit"
            assert logs == dict.fromkeys(FRONTS, logs["native"])

    def test_messages_are_where_every_front_finds_them(self, of_code: dict[str, dict[str, Any]]) -> None:
        in_words = ("add up", None)
        in_args = (None, {"message": "add up"})
        given = {
            front: (task["input"].get("message"), task["input"].get("args"))
            for front, task in of_code.items()
        }
        assert given == {
            "native": in_words,
            "nara": in_args,
            "nugen": in_words,
            "agentbase": in_words,
            "appstrate": in_args,
        }


class TestTheOrigin:
    @pytest.mark.parametrize("front", FRONTS)
    def test_the_native_api_shows_by_which_front_a_task_came(
        self, admin: httpx2.Client, of_code: dict[str, dict[str, Any]], front: str
    ) -> None:
        task_id = of_code[front]["task_id"]

        assert admin.get(f"/api/v1/tasks/{task_id}").json()["front"] == front
        listed = {task["task_id"]: task for task in admin.get("/api/v1/tasks?limit=100").json()["data"]}
        assert listed[task_id]["front"] == front

    @pytest.mark.parametrize("front", FRONTS)
    def test_appstrates_runs_hold_the_tasks_of_every_front(
        self, admin: httpx2.Client, of_code: dict[str, dict[str, Any]], front: str
    ) -> None:
        listed = admin.get("/api/agents/@default/ledger/runs?limit=100").json()["runs"]

        assert any(run["id"].endswith(of_code[front]["task_id"]) for run in listed)
