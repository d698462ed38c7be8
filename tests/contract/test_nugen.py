"""The nugen contract, fact by fact (docs/fronts/nugen.md): runs, sessions and what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.live import MODEL, Live, unique, waiting_together
from tests.contract.nugen import AGENTS, create, defect, detail, run
from tests.fakes.model_server import fail, reply, system_of, text_of
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def conversation(live: Live, message: str) -> list[tuple[str, str]]:
    """What the model was given in the request that ended with this message: (role, text), without the system."""
    request = next(r for r in live.model.requests if message in text_of(r["messages"][-1]))
    return [(m["role"], text_of(m)) for m in request["messages"] if m["role"] not in ("system", "developer")]


@pytest.fixture(scope="module")
def bot(admin: httpx2.Client) -> dict[str, Any]:
    """An agent made through this front."""
    return create(admin, unique("support bot"), instructions="Be kind.", temperature=0.2, max_tokens=77)


class TestRun:
    def test_the_answer_has_the_agent_the_model_the_response_and_the_usage(
        self, admin: httpx2.Client, live: Live, bot: dict[str, Any]
    ) -> None:
        question = unique("How do I reset my password?")
        usage = {"prompt_tokens": 245, "completion_tokens": 98, "total_tokens": 343}
        live.model.when(question, reply("1. Go to login\n2. Click.", usage=usage))

        answer = run(admin, bot["name"], question)

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {
            "agent_id": bot["id"],
            "model": MODEL,
            "response": "1. Go to login\n2. Click.",
            "usage": {"input_tokens": 245, "output_tokens": 98, "total_tokens": 343},
        }

    def test_the_agents_own_settings_decide(
        self, admin: httpx2.Client, live: Live, bot: dict[str, Any]
    ) -> None:
        question = unique("which settings?")
        live.model.when(question, reply("mine"))

        run(admin, bot["name"], question)

        request = live.model.request_about(question)
        assert system_of(request) == "Be kind."
        assert request["temperature"] == 0.2
        assert 77 in (request.get("max_tokens"), request.get("max_completion_tokens"))

    def test_demonstrations_stand_before_the_message(self, admin: httpx2.Client, live: Live) -> None:
        shown = [{"user_input": "2+2?", "model_output": "4"}]
        agent = create(admin, demonstrations=shown)
        question = unique("3+3?")
        live.model.when(question, reply("6"))

        run(admin, agent["name"], question)

        assert conversation(live, question) == [("user", "2+2?"), ("assistant", "4"), ("user", question)]

    def test_the_task_is_known_to_the_native_api(
        self, admin: httpx2.Client, live: Live, bot: dict[str, Any]
    ) -> None:
        question = unique("seen everywhere?")
        live.model.when(question, reply("yes"))

        task = live.task(run(admin, bot["name"], question).headers["x-task-id"])

        assert task["front"] == "nugen"
        assert task["status"] == "completed"
        assert task["input"]["message"] == question

    def test_a_python_agent_answers_too(self, admin: httpx2.Client) -> None:
        body = run(admin, "remembers", "hello").json()

        assert body["response"] == "0 before: "
        assert body["model"] == "python"
        assert body["usage"] == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}

    def test_structured_output_comes_as_json_text(self, admin: httpx2.Client) -> None:
        assert run(admin, "echo", "hi").json()["response"] == '{"message":"hi","args":{}}'

    def test_the_answer_is_plain_json_for_every_accept_header(self, admin: httpx2.Client) -> None:
        answer = admin.post(
            f"{AGENTS}/run-agents/echo/run", json={"message": "hi"}, headers={"accept": "text/event-stream"}
        )

        assert answer.json()["response"]

    def test_the_older_path_runs_by_id(self, admin: httpx2.Client, live: Live, bot: dict[str, Any]) -> None:
        question = unique("by id?")
        live.model.when(question, reply("yes"), forever=True)

        for slash in ("/", ""):
            answer = admin.post(f"{AGENTS}/{bot['id']}/run{slash}", json={"message": question})
            assert answer.json()["response"] == "yes"

    def test_the_same_idempotency_key_runs_once(self, admin: httpx2.Client) -> None:
        headers = {"idempotency-key": unique("nugen")}

        first, second = (
            admin.post(f"{AGENTS}/run-agents/echo/run", json={"message": "hi"}, headers=headers)
            for _ in range(2)
        )

        assert first.headers["x-task-id"] == second.headers["x-task-id"]


class TestSessions:
    def test_the_same_session_id_keeps_the_conversation(
        self, admin: httpx2.Client, live: Live, bot: dict[str, Any]
    ) -> None:
        first, second, session = unique("I am Ada."), unique("Who am I?"), unique("session-xyz789")
        live.model.when(first, reply("Hello Ada."))
        live.model.when(second, reply("Ada."))

        assert run(admin, bot["name"], first, session).json()["response"] == "Hello Ada."
        assert run(admin, bot["name"], second, session).json()["response"] == "Ada."

        assert conversation(live, second) == [("user", first), ("assistant", "Hello Ada."), ("user", second)]

    def test_without_one_each_call_is_on_its_own(self, admin: httpx2.Client) -> None:
        run(admin, "remembers", "first")

        assert run(admin, "remembers", "second").json()["response"] == "0 before: "

    def test_python_agents_see_the_conversation_too(self, admin: httpx2.Client) -> None:
        session = unique("s")
        run(admin, "remembers", "one", session)
        run(admin, "remembers", "two", session)

        assert run(admin, "remembers", "three", session).json()["response"] == "2 before: one, two"

    def test_a_session_belongs_to_its_agent(self, admin: httpx2.Client) -> None:
        session = unique("s")
        run(admin, "echo", "to echo", session)

        assert run(admin, "remembers", "hello", session).json()["response"] == "0 before: "

    def test_a_session_belongs_to_its_key(self, admin: httpx2.Client, live: Live) -> None:
        session = unique("s")
        run(admin, "remembers", "mine", session)

        with live.client(live.key_of("member")) as other:
            assert run(other, "remembers", "yours", session).json()["response"] == "0 before: "

    def test_a_session_id_of_255_characters_is_the_longest(self, admin: httpx2.Client) -> None:
        assert run(admin, "remembers", "x", "s" * 255).status_code == 200
        assert defect(run(admin, "remembers", "x", "s" * 256))["loc"] == ["header", "X-Session-ID"]

    def test_an_empty_session_id_is_none(self, admin: httpx2.Client) -> None:
        run(admin, "remembers", "x", "")

        assert run(admin, "remembers", "y", "").json()["response"] == "0 before: "


class TestRefusedRuns:
    def test_an_unknown_name_is_404(self, admin: httpx2.Client) -> None:
        detail(run(admin, "missing_agent", "hi"), 404, "agent_not_found")

    def test_a_name_that_is_not_normalised_is_404(self, admin: httpx2.Client) -> None:
        for name in ("Remembers", "support-triage", "%40demo%2Fecho"):
            detail(run(admin, name, "hi"), 404)

    def test_an_inactive_agent_is_404(self, admin: httpx2.Client, bot: dict[str, Any]) -> None:
        made = create(admin)
        assert admin.patch(f"/api/v1/agents/{made['id']}", json={"is_active": False}).status_code == 200

        detail(run(admin, made["name"], "hi"), 404, "agent_not_found")
        detail(admin.post(f"{AGENTS}/{made['id']}/run", json={"message": "hi"}), 404)

    def test_another_organisations_agent_is_404(self, live: Live, bot: dict[str, Any]) -> None:
        _, key = live.new_organisation()
        with live.client(key) as other:
            detail(run(other, bot["name"], "hi"), 404, "agent_not_found")
            detail(other.post(f"{AGENTS}/{bot['id']}/run", json={"message": "hi"}), 404)

    def test_an_empty_balance_is_402(self, live: Live) -> None:
        _, key = live.new_organisation(balance_micros=0)
        with live.client(key) as broke:
            detail(run(broke, "echo", "hi"), 402, "quota_exceeded")

    def test_inference_that_fails_is_500(self, admin: httpx2.Client, live: Live, bot: dict[str, Any]) -> None:
        question = unique("never answered")
        live.model.when(question, fail(400), forever=True)

        answer = run(admin, bot["name"], question)

        detail(answer, 500)
        assert live.task(answer.json()["task_id"])["status"] == "failed"

    def test_a_run_that_outlasts_the_wait_is_504_and_goes_on(self, live: Live, impatient: str) -> None:
        with live.client(name=impatient) as client:
            answer = run(client, "asks", "hi")

        detail(answer, 504, "wait_timeout")
        assert live.until(answer.json()["task_id"], "waiting_for_input")

    @pytest.mark.parametrize(
        ("body", "loc", "type_"),
        [
            ({}, ["body", "message"], "missing"),
            ({"message": 7}, ["body", "message"], "value_error"),
            ({"message": ""}, ["body", "message"], "value_error"),
            ([], ["body"], "dict_type"),
        ],
    )
    def test_a_body_that_does_not_fit_is_422(
        self, admin: httpx2.Client, body: Any, loc: list[str], type_: str
    ) -> None:
        found = defect(admin.post(f"{AGENTS}/run-agents/echo/run", json=body))

        assert found["loc"] == loc
        assert found["type"] == type_

    def test_a_body_that_is_no_json_is_422(self, admin: httpx2.Client) -> None:
        headers = {"content-type": "application/json"}
        found = defect(admin.post(f"{AGENTS}/run-agents/echo/run", content=b"{", headers=headers))

        assert found["type"] == "json_invalid"

    def test_unknown_fields_are_tolerated(self, admin: httpx2.Client) -> None:
        body = {"message": "hi", "stream": True}
        assert admin.post(f"{AGENTS}/run-agents/echo/run", json=body).status_code == 200

    def test_no_key_is_401(self, live: Live) -> None:
        with live.client("") as anonymous:
            detail(run(anonymous, "echo", "hi"), 401, "missing_credentials")
            detail(anonymous.get(AGENTS), 401)

    def test_a_viewers_key_is_403(self, live: Live) -> None:
        with live.client(live.key_of("viewer")) as viewer:
            detail(run(viewer, "echo", "hi"), 403, "missing_permission")
            assert viewer.get(AGENTS).status_code == 200


class TestThePagesOwnSample:
    """The request of the page, by curl: only base URL and key are other."""

    def test_it_answers(self, live: Live) -> None:
        live.model.when("How do I reset my password?", reply("Go to the login page."))

        done = subprocess.run(
            [
                *("curl", "-s", "-X", "POST"),
                live.url("/api/v3/agents/run-agents/customer_support_bot/run"),
                *("-H", f"Authorization: Bearer {live.key}"),
                *("-H", "Content-Type: application/json"),
                *("-H", "X-Session-ID: session-xyz789"),
                *("-d", '{"message": "How do I reset my password?"}'),
            ],
            capture_output=True,
            timeout=60,
            check=True,
        )

        body = httpx2.Response(200, content=done.stdout).json()
        assert body["response"] == "Go to the login page."
        assert body.keys() == {"agent_id", "model", "response", "usage"}


@pytest.fixture
def other(live: Live) -> Iterator[httpx2.Client]:
    """A client of an organisation of its own."""
    _, key = live.new_organisation()
    with live.client(key) as client:
        yield client


def test_every_path_may_end_with_a_slash(admin: httpx2.Client, bot: dict[str, Any]) -> None:
    assert admin.get(f"{AGENTS}/").status_code == 200
    assert admin.get(f"{AGENTS}/available_models/").status_code == 200
    assert admin.get(f"{AGENTS}/usage/").status_code == 200
    assert admin.get(f"{AGENTS}/{bot['id']}/").status_code == 200
    assert admin.patch(f"{AGENTS}/{bot['id']}/", json={}).status_code == 200
    assert defect(admin.post(f"{AGENTS}/create/", json=[]))
    assert admin.post(f"{AGENTS}/run-agents/echo/run/", json={"message": "hi"}).status_code == 200


def test_a_client_that_leaves_does_not_stop_the_run_and_is_waited_for_no_more(live: Live) -> None:
    before, text = live.gauge(), unique("hi")

    def mine() -> list[str]:
        found = [task["task_id"] for task in live.request("GET", "/tasks?limit=10")[1]["data"]]
        return [task_id for task_id in found if text in str(live.task(task_id)["input"])]

    with live.client(live.key_of("admin")) as client, pytest.raises(httpx2.ReadTimeout):
        client.post(f"{AGENTS}/run-agents/asks/run", json={"message": text}, timeout=1)

    (task_id,) = wait_until(mine)
    wait_until(lambda: live.gauge() == before)
    assert live.until(task_id, "waiting_for_input")


def test_three_hundred_callers_wait_at_once_and_cost_no_thread_each(live: Live, tmp_path: Path) -> None:
    answers, threads = waiting_together(
        live,
        300,
        lambda client: client.post(
            f"{AGENTS}/run-agents/gated/run", json={"message": str(tmp_path / "gate")}
        ),
        tmp_path / "gate",
    )

    assert {answer.json()["response"] for answer in answers} == {"through"}
    assert threads <= 40
