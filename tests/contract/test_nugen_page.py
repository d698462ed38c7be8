"""What nugen's page and notebook print works as printed (cases s-04, s-08 and s-15)."""

from __future__ import annotations

import http.client
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.contract.live import MODEL, Live
from tests.fakes.model_server import calls, reply

pytestmark = pytest.mark.timeout(300)

AGENTS = "/api/v3/agents"


def run(client: httpx2.Client, message: str, session: str, name: str = "asks") -> httpx2.Response:
    headers = {"x-session-id": session}
    return client.post(f"{AGENTS}/run-agents/{name}/run", json={"message": message}, headers=headers)


def session_name() -> str:
    return f"session-{uuid.uuid4().hex[:8]}"


class TestAnAgentThatAsks:
    def test_its_question_is_the_response_and_the_next_message_the_answer(self, admin: httpx2.Client) -> None:
        session = session_name()

        asked = run(admin, "do it", session)
        answered = run(admin, "blue", session)

        assert asked.json()["response"] == "Which colour?"
        assert asked.json().keys() == {"agent_id", "model", "response", "usage"}
        assert answered.json()["response"] == "You like blue."
        assert answered.headers["x-task-id"] == asked.headers["x-task-id"]

    def test_its_session_goes_on_with_a_run_of_its_own_behind_the_answer(self, admin: httpx2.Client) -> None:
        session = session_name()
        first = run(admin, "do it", session)
        run(admin, "blue", session)

        second = run(admin, "again", session)

        assert second.json()["response"] == "Which colour?"
        assert second.headers["x-task-id"] != first.headers["x-task-id"]

    def test_other_sessions_and_keys_do_not_answer_it(self, admin: httpx2.Client, live: Live) -> None:
        session = session_name()
        asked = run(admin, "do it", session)

        with live.client(live.key_of("admin")) as other:
            answers = [run(other, "blue", session), run(admin, "blue", session_name())]

        assert [one.json()["response"] for one in answers] == ["Which colour?"] * 2
        assert live.task(asked.headers["x-task-id"])["status"] == "waiting_for_input"

    def test_it_may_be_run_by_its_id_too(self, admin: httpx2.Client) -> None:
        session = session_name()
        headers = {"x-session-id": session}
        agent_id = run(admin, "do it", session).json()["agent_id"]

        answer = admin.post(f"{AGENTS}/{agent_id}/run", json={"message": "red"}, headers=headers)

        assert answer.json()["response"] == "You like red."

    def test_a_model_that_asks_its_user_is_answered_as_well(self, admin: httpx2.Client, live: Live) -> None:
        session, question = session_name(), uuid.uuid4().hex
        live.model.when(question, calls(ask_user={"question": "How many?"}), reply("Three it is."))
        made = admin.post(
            "/api/v1/agents/manifests",
            json={"name": f"@nugen/asker-{question[:8]}", "version": "1.0.0", "tools": ["ask_user"]},
        ).json()
        name = f"asker_{question[:8]}"

        asked = run(admin, question, session, name)

        assert asked.json()["response"] == "How many?", made
        assert run(admin, "three", session, name).json()["response"] == "Three it is."

    def test_two_answers_at_once_are_an_answer_and_a_run(self, admin: httpx2.Client) -> None:
        session = session_name()
        run(admin, "do it", session)

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda text: run(admin, text, session), ("red", "blue")))

        assert "Which colour?" in [one.json()["response"] for one in both]
        assert [one.status_code for one in both] == [200, 200]


def posted(live: Live, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """A POST with no other headers than these: the usual clients would add a Content-Type."""
    host, port = live.url().removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(
            "POST", path, json.dumps(body).encode(), {"Authorization": f"Bearer {live.key}"} | headers
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class TestTheSampleOfThePage:
    def test_a_body_without_a_type_is_json(self, live: Live) -> None:
        headers = {"X-Session-ID": session_name()}

        status, body = posted(live, f"{AGENTS}/run-agents/remembers/run", {"message": "hello"}, **headers)

        assert (status, body["response"]) == (200, "0 before: ")

    @pytest.mark.parametrize("path", ["/?agent=remembers", "/create-datastore"])
    def test_agentbase_takes_one_as_well(self, live: Live, path: str) -> None:
        body = {"message": "hi", "background": True, "name": "d", "type": "documents"}

        assert posted(live, path, body)[0] == 200

    def test_a_body_of_another_type_is_refused(self, live: Live) -> None:
        path, headers = f"{AGENTS}/run-agents/remembers/run", {"Content-Type": "text/plain"}

        status, body = posted(live, path, {"message": "hello"}, **headers)

        assert (status, body["code"]) == (415, "unsupported_media_type")

    def test_fronts_that_take_cookies_ask_for_the_type(self, live: Live) -> None:
        assert posted(live, "/api/agent/run", {"agentName": "echo", "args": {}})[0] == 415


class TestTheNotebook:
    def test_its_literal_model_makes_an_agent_that_runs_and_goes_with_a_204(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        question = uuid.uuid4().hex
        body = {
            "agent_name": f"Your First Agent {question[:8]}",
            "agent_description": "d",
            "model": "nugen-flash-instruct",
        }

        made = admin.post(f"{AGENTS}/create", json=body).json()["data"]
        live.model.when(question, reply("ok"))
        answered = run(admin, question, session_name(), made["name"])

        assert made["base_model"] == made["base_model_name"] == "nugen-flash-instruct"
        assert (answered.status_code, answered.json()["response"]) == (200, "ok")
        assert live.model.request_about(question)["model"] == "nugen-flash-instruct"
        assert admin.delete(f"{AGENTS}/{made['id']}").status_code == 204

    @pytest.mark.parametrize("model", ["", " ", "unknown:nothing", "x" * 129])
    def test_what_is_no_models_name_is_refused(self, admin: httpx2.Client, model: str) -> None:
        body = {"agent_name": session_name(), "agent_description": "d", "model": model}

        answer = admin.post(f"{AGENTS}/create", json=body)

        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_model")
        assert MODEL in answer.json()["detail"]

    def test_a_caller_that_asks_for_json_gets_the_references_body_of_a_delete(
        self, admin: httpx2.Client
    ) -> None:
        body = {"agent_name": session_name(), "agent_description": "d", "model": MODEL}
        made = admin.post(f"{AGENTS}/create", json=body).json()["data"]

        answer = admin.delete(f"{AGENTS}/{made['id']}", headers={"accept": "application/json"})

        assert (answer.status_code, answer.json()["agent_id"]) == (200, made["id"])

    def test_the_listed_model_is_the_one_that_answers(self, live: Live) -> None:
        name = live.add_api(RUNYARD_MODEL_FAST="openai:quick")
        manifest = {"name": f"@nugen/{session_name()}", "version": "1.0.0"}
        with live.client(name=name) as client:
            made = client.post("/api/v1/agents/manifests", json=manifest).json()
            listed = client.get(f"{AGENTS}/{made.get('agent_id') or made['agent_group_id']}").json()["data"]

        assert listed["base_model"] == "openai:quick"
