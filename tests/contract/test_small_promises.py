"""Small promises of the surfaces (cases s-16, s-17, s-18 and s-21)."""

from __future__ import annotations

import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.appstrate import REQUEST_ID, caller, problem, start
from tests.contract.live import Live
from tests.fakes.model_server import reply
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def agent(admin: httpx2.Client, **more: Any) -> dict[str, Any]:
    """A new declared agent."""
    manifest = {"name": f"@small/{uuid.uuid4().hex[:8]}", "version": "1.0.0", "instructions": "Do it."} | more
    made = admin.post("/api/v1/agents/manifests", json=manifest)
    assert made.status_code == 201, made.text
    whole: dict[str, Any] = manifest | made.json()
    return whole


class TestNanonetsPlaceholders:
    def test_the_pages_curl_works_as_printed(self, admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
        (tmp_path / "example-file").write_text("some text")
        id_ = admin.post("/api/v1/agents", json={"system_prompt": "Do it."}).json()["id"]

        command = [
            "curl", "-sS", "--request", "POST", "--url", f"{live.url()}/api/v1/agents/{id_}/run",
            "--header", f"Authorization: Bearer {live.key}", "--header", "Content-Type: multipart/form-data",
            "--form-string", "query=<string>", "--form-string", "files=<string>",
            "--form-string", "output_config=<string>", "--form", "files.items=@example-file",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

        assert '"task_id"' in done.stdout, done.stdout

    @pytest.mark.parametrize("text", ["", " ", "<string>", " <string> "])
    def test_an_empty_output_config_is_none(self, admin: httpx2.Client, text: str) -> None:
        name = agent(admin)["name"]

        answer = admin.post(
            f"/api/v1/agents/{name}/run", files={"query": (None, "x"), "output_config": (None, text)}
        )

        assert answer.status_code == 202, answer.text

    @pytest.mark.parametrize("text", ["<string", "string", "{", "<string> <string>"])
    def test_what_is_no_json_and_no_placeholder_is_refused(self, admin: httpx2.Client, text: str) -> None:
        name = agent(admin)["name"]

        answer = admin.post(
            f"/api/v1/agents/{name}/run", files={"query": (None, "x"), "output_config": (None, text)}
        )

        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
            400,
            "bad_json",
            "output_config",
        )

    def test_a_text_that_looks_like_a_placeholder_is_a_text(self, admin: httpx2.Client) -> None:
        name = agent(admin)["name"]

        made = admin.post(f"/api/v1/agents/{name}/run", files={"query": (None, "<string>")}).json()

        assert admin.get(f"/api/v1/tasks/{made['task_id']}").json()["input"]["message"] == "<string>"


class TestAgentIds:
    def test_a_conversations_agent_id_is_the_tasks(self, admin: httpx2.Client, live: Live) -> None:
        question = uuid.uuid4().hex
        live.model.when(question, reply("ok"))
        body = {"query": question, "session_id": question}
        made = admin.post(f"/api/v1/agents/{agent(admin)['name']}/run", json=body).json()
        task = live.until(made["task_id"])

        of_task = admin.get(f"/api/v1/tasks/{made['task_id']}/messages").json()["data"]
        of_session = admin.get(f"/api/v1/sessions/{made['session_id']}/messages").json()["data"]

        for lines in (of_task, of_session):
            assert len(lines) == 2
            assert {line["agent_id"] for line in lines} == {task["agent_id"]}
            assert {line["agent_group_id"] for line in lines} == {task["agent_group_id"]}

    def test_a_pending_question_has_it_too(self, admin: httpx2.Client, live: Live) -> None:
        made = admin.post("/api/v1/agents/asks/run", json={"query": "hi"}).json()
        task = live.until(made["task_id"], "waiting_for_input")

        lines = admin.get(f"/api/v1/tasks/{made['task_id']}/messages").json()["data"]

        assert {line["agent_id"] for line in lines} == {task["agent_id"]}


def test_naras_errors_name_its_own_fields(admin: httpx2.Client) -> None:
    answer = admin.post("/api/agent/run", json={"agentName": "zz", "args": {}})

    assert answer.status_code == 404
    assert (answer.json()["code"], answer.json()["field"]) == ("agent_not_found", "agentName")


def test_a_task_that_was_answered_is_pending_as_reading_it_shows(admin: httpx2.Client, live: Live) -> None:
    made = admin.post("/api/v1/agents/asks/run", json={"query": "hi"}).json()
    live.until(made["task_id"], "waiting_for_input")

    answer = admin.post(f"/api/v1/tasks/{made['task_id']}/message", json={"message": "red"})

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")


@pytest.mark.parametrize("name", ["since", "until"])
def test_an_empty_instant_is_none(admin: httpx2.Client, name: str) -> None:
    answer = admin.get("/api/v1/usage", params={name: ""})

    assert (answer.status_code, answer.json()["field"]) == (400, name)


class TestConfiguration:
    @pytest.fixture
    def package(self, admin: httpx2.Client) -> str:
        schema = {"type": "object", "required": ["region"], "properties": {"region": {"type": "string"}}}
        return str(agent(admin, config={"schema": schema})["name"])

    def test_a_runs_config_counts_as_configuration(self, live: Live, package: str) -> None:
        with caller(live) as client:
            problem(start(client, package), 400, "config_incomplete", "config.region")
            body = {"input": {}, "config": {"region": "eu", "more": 1}}
            answer = client.post(f"/api/agents/{package}/run", json=body)
            assert answer.status_code == 200, answer.text
            run = client.get(f"/api/runs/{answer.json()['runId']}").json()

        assert run["metadata"]["config"] == {"region": "eu"}

    def test_a_value_that_does_not_fit_is_named(self, live: Live, package: str) -> None:
        with caller(live) as client:
            answer = client.post(f"/api/agents/{package}/run", json={"config": {"region": ["eu"]}})

        problem(answer, 400, "invalid_request", "config.region")


def test_the_id_of_a_schedule_is_read_as_it_is_cancelled(admin: httpx2.Client) -> None:
    body = {"message": "m", "background": True, "schedules": [{"schedule": 3600, "message": "later"}]}
    [made] = admin.post("/", json=body, params={"agent": "remembers"}).json()["schedules"]

    for path in (f"/tasks/{made['id']}", f"/api/v1/tasks/{made['id']}"):
        found = admin.get(path)
        assert found.status_code == 200, found.text
        assert (found.json()["task_id"], found.json()["status"]) == (made["id"], "pending")
    assert admin.post(f"/tasks/{made['id']}/cancel").status_code == 204
    assert admin.get(f"/tasks/{made['id']}").status_code == 404


class TestPathsThatNothingAnswers:
    def test_appstrates_problem_has_its_request_id(self, admin: httpx2.Client) -> None:
        body = problem(admin.get("/api/nothing"), 404, "not_found")

        assert REQUEST_ID.fullmatch(body["requestId"])

    @pytest.mark.parametrize(
        ("path", "key"),
        [
            ("/api/v3/agents/a/b/c", "detail"),
            ("/api/agent/nothing", "success"),
            ("/agentbase/nothing/at/all", "error"),
            ("/api/v1/nothing", "title"),
            ("/nothing/at/all", "title"),
        ],
    )
    def test_each_front_refuses_it_in_its_own_words(self, admin: httpx2.Client, path: str, key: str) -> None:
        answer = admin.get(path)

        assert answer.status_code == 404
        assert key in answer.json()


def test_a_comment_comes_after_fifteen_seconds_of_silence(admin: httpx2.Client, tmp_path: Path) -> None:
    with admin.stream(
        "POST", "/", json={"message": str(tmp_path / "gate")}, params={"agent": "gated"}
    ) as answer:
        pieces = answer.iter_text()
        next(pieces)
        began = time.monotonic()
        comment = next(pieces)
        waited = time.monotonic() - began
        (tmp_path / "gate").touch()
        wait_until(lambda: "agent_completed" in next(pieces))

    assert comment.startswith(":")
    assert 14 < waited < 30
