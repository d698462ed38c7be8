"""The agentbase contract beside its event stream, fact by fact (docs/fronts/agentbase.md)."""

from __future__ import annotations

import io
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.agentbase import refused, session_of
from tests.contract.frames import run
from tests.contract.live import Live, unique, waiting_together
from tests.fakes.mcp_servers import mcp_process
from tests.fakes.model_server import calls, reply, results_of, system_of

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def remembering() -> dict[str, str]:
    """The parameter that names an agent which needs no model."""
    return {"agent": "remembers"}


class TestPaths:
    @pytest.mark.parametrize(
        "path", ["/", "/run-agent", "/run-agent/", "/agentbase", "/agentbase/", "/agentbase/run-agent"]
    )
    def test_the_run_answers_on_every_path(
        self, admin: httpx2.Client, path: str, remembering: dict[str, str]
    ) -> None:
        assert run(admin, "hi", path, remembering).types[-1] == "agent_completed"

    @pytest.mark.parametrize("prefix", ["", "/agentbase"])
    def test_the_messages_answer_under_both_prefixes(
        self, admin: httpx2.Client, prefix: str, remembering: dict[str, str]
    ) -> None:
        session = session_of(run(admin, "hi", params=remembering))

        assert admin.post(f"{prefix}/get-messages", params={"session": session}).status_code == 200
        assert admin.post(f"{prefix}/clear-messages/", params={"session": session}).status_code == 200


class TestRequest:
    def test_a_call_that_names_no_agent_meets_the_default_one(self, admin: httpx2.Client, live: Live) -> None:
        question = unique("who are you?")
        live.model.when(question, reply("An assistant."))

        frames = run(admin, question)

        assert frames.text() == "An assistant."
        task = live.task(frames.events[0]["task_id"])
        assert task["agent"] == "@runyard/assistant"
        assert task["front"] == "agentbase"
        assert task["input"]["message"] == question

    def test_the_system_prompt_and_the_rules_reach_the_model(self, admin: httpx2.Client, live: Live) -> None:
        question = unique("rules?")
        live.model.when(question, reply("ok"))

        run(admin, question, system="You are a pirate.", rules=["Never mention gold."])

        system = system_of(live.model.request_about(question))
        assert "You are a pirate." in system
        assert "Never mention gold." in system

    @pytest.mark.parametrize("mode", ["flash", "fast", "base", "max"])
    def test_every_mode_is_taken(
        self, admin: httpx2.Client, live: Live, mode: str, remembering: dict[str, str]
    ) -> None:
        frames = run(admin, "hi", params=remembering, mode=mode)

        assert live.task(frames.events[0]["task_id"])["input"]["options"]["mode"] == mode

    def test_another_mode_is_400(self, admin: httpx2.Client) -> None:
        body = refused(admin.post("/", json={"message": "hi", "mode": "turbo"}), 400, "invalid_field")

        assert body["field"] == "mode"

    def test_stray_fields_are_tolerated_at_any_depth(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        frames = run(
            admin,
            "hi",
            params=remembering,
            streaming=True,
            mcpServers=[{"a": 1}],
            tools=["web"],
            webhook={"url": "x", "events": []},
            hooks=None,
            capabilities={},
            agents=[{"name": "a", "description": "b", "prompt": "c"}],
            final_output={"name": "n", "schema": {"type": "object"}, "extra": 1},
        )

        assert frames.types[-1] == "agent_completed"

    def test_an_mcp_server_takes_oauth_too(self, admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
        question = unique("oauth")
        live.model.when(question, calls(crm_find_customer={"name": "Ada"}), reply("Gold."))
        auth = {"type": "oauth", "oauth": {"accessToken": "t0ken"}}
        with mcp_process(tmp_path, token="t0ken") as server:
            servers = [{"serverName": "crm", "serverUrl": server.url, "auth": auth}]
            frames = run(admin, question, mcp_servers=servers)
            assert server.calls == ["find Ada"]

        task = live.task(frames.events[0]["task_id"])
        assert "t0ken" not in json.dumps(task)

    def test_the_old_sse_endpoint_of_an_mcp_server_still_works(
        self, admin: httpx2.Client, live: Live, tmp_path: Path
    ) -> None:
        question = unique("old sse")
        live.model.when(question, calls(old_find_customer={"name": "Ada"}), reply("Gold."))
        with mcp_process(tmp_path, kind="sse") as server:
            assert server.url.endswith("/sse")
            frames = run(admin, question, mcp_servers=[{"serverName": "old", "serverUrl": server.url}])
            assert server.calls == ["find Ada"]

        assert frames.text() == "Gold."

    def test_a_workflow_runs_its_steps(self, admin: httpx2.Client, live: Live) -> None:
        question, first, second = unique("onboard"), unique("collect info"), unique("validate email")
        live.model.when(first, reply("Ada, ada@example.org"))
        live.model.when(second, reply("valid"))
        live.model.when(question, reply("Onboarded."))
        steps = [
            {"id": "step_1", "name": "collect", "description": first, "depends_on": []},
            {"id": "step_2", "name": "validate", "description": second, "depends_on": ["step_1"]},
        ]
        workflow = {"id": "onboarding", "name": "onboard", "description": "Onboard.", "steps": steps}

        frames = run(admin, question, workflows=[workflow])

        done = [e["step"] for e in frames.events if e["type"] == "agent_step" and "workflow" in e]
        assert done == ["step_1", "step_2"]
        assert frames.text() == "Onboarded."

    def test_a_workflow_in_a_circle_is_400(self, admin: httpx2.Client) -> None:
        steps = [
            {"id": "a", "name": "a", "description": "a", "depends_on": ["b"]},
            {"id": "b", "name": "b", "description": "b", "depends_on": ["a"]},
        ]
        workflow = {"id": "w", "name": "w", "description": "w", "steps": steps}

        answer = admin.post("/", json={"message": "hi", "workflows": [workflow]})

        assert refused(answer, 400, "invalid_field")["field"] == "workflows[0]"

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({}, "missing_field"),
            ({"message": ""}, "invalid_field"),
            ({"message": 7}, "invalid_field"),
            ({"message": "hi", "rules": "none"}, "invalid_field"),
            ({"message": "hi", "mcp_servers": [{"serverName": "a"}]}, "missing_field"),
            ({"message": "hi", "callback": {"url": "ftp://x"}}, "url_refused"),
            ({"message": "hi", "schedules": [{"schedule": "every day", "message": "m"}]}, "bad_cron"),
            ([], "not_an_object"),
        ],
    )
    def test_a_body_that_does_not_fit_is_400(self, admin: httpx2.Client, body: Any, code: str) -> None:
        refused(admin.post("/", json=body), 400, code)

    def test_an_unknown_agent_is_404(self, admin: httpx2.Client) -> None:
        refused(admin.post("/", json={"message": "hi"}, params={"agent": "missing"}), 404, "agent_not_found")


class TestThePagesOwnSample:
    """The curl call of the reference, unchanged: only base URL and key are other."""

    SAMPLE = (
        '{"message": "<string>", "system": "<string>", "mode": "<string>", "workflows": [{}], "rules": ["<string>"], '
        '"agents": [{}], "mcp_servers": [{}], "background": true, "callback": {}, "datastores": [{}], '
        '"queries": [{}], "streaming_tokens": true, "schedules": [{}], "final_output": {}}'
    )

    def test_it_is_accepted(self, live: Live) -> None:
        live.model.when("<string>", reply("ok"))
        done = subprocess.run(
            [
                *("curl", "--silent", "--request", "POST", "--url", live.url("/")),
                *("--header", f"Authorization: Bearer {live.key}"),
                *("--header", "Content-Type: application/json"),
                *("--data", self.SAMPLE),
            ],
            capture_output=True,
            timeout=60,
            check=True,
        )

        accepted = json.loads(done.stdout)
        assert accepted["status"] == "queued"
        assert live.until(accepted["taskId"])["status"] == "completed"


class TestErrors:
    def test_no_key_and_a_bad_key_are_401(self, live: Live) -> None:
        with live.client("") as anonymous:
            refused(anonymous.post("/", json={"message": "hi"}), 401, "missing_credentials")
        with live.client("agb_123") as stranger:
            refused(stranger.post("/", json={"message": "hi"}), 401, "key_unknown")

    def test_a_key_without_the_permission_is_403(self, live: Live) -> None:
        with live.client(live.key_of("viewer")) as viewer:
            refused(viewer.post("/", json={"message": "hi"}), 403, "missing_permission")

    def test_no_credits_are_403(self, live: Live) -> None:
        _, key = live.new_organisation(balance_micros=0)
        with live.client(key) as broke:
            refused(broke.post("/", json={"message": "hi"}), 403, "quota_exceeded")

    def test_an_inactive_account_is_403(self, live: Live) -> None:
        _, key = live.new_organisation(active=False)
        with live.client(key) as closed:
            refused(closed.post("/", json={"message": "hi"}), 403, "organisation_inactive")

    def test_a_body_that_is_too_large_is_413(self, admin: httpx2.Client) -> None:
        answer = admin.post("/", json={"message": "x" * 11_000_000})

        refused(answer, 413, "payload_too_large")

    def test_refusals_before_the_work_leave_retrying_to_the_client(self, admin: httpx2.Client) -> None:
        assert "x-should-retry" not in admin.post("/", json={}).headers

    def test_answers_after_the_work_has_begun_forbid_retrying(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        body = {"message": "hi", "background": True}

        assert admin.post("/", json=body, params=remembering).headers["x-should-retry"] == "false"

    def test_the_same_idempotency_key_streams_the_same_run(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        headers = {"idempotency-key": unique("agentbase")}
        answers = [
            admin.post("/", json={"message": "hi"}, params=remembering, headers=headers) for _ in range(2)
        ]

        assert answers[0].text == answers[1].text
        assert answers[0].headers["x-task-id"] == answers[1].headers["x-task-id"]


@pytest.fixture(scope="module")
def sparing(live: Live) -> Iterator[httpx2.Client]:
    """A client of an organisation of its own, on a process that lets three requests a minute pass."""
    name = live.add_api(RUNYARD_SURFACE_REQUESTS_PER_MINUTE='{"agentbase": 3}')
    _, key = live.new_organisation()
    with live.client(key, name=name) as client:
        yield client


class TestRateLimits:
    def test_headers_show_what_the_account_has_left_and_the_fourth_request_is_429(
        self, sparing: httpx2.Client
    ) -> None:
        began = time.time()
        answers = [sparing.post("/get-messages", params={"session": "none"}) for _ in range(3)]
        second = sparing.post("/api/v1/keys", json={"name": "second", "role": "admin"}).json()["key"]
        headers = {"authorization": f"Bearer {second}"}  # the limit is the account's, not the key's
        answers.append(sparing.post("/get-messages", params={"session": "none"}, headers=headers))

        assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
        for answer in answers:
            assert answer.headers["x-ratelimit-limit"] == "3"
            assert began - 2 < int(answer.headers["x-ratelimit-reset"]) < began + 70
        refused(answers[3], 429, "rate_limited")
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert answers[3].headers.get("x-should-retry") is None


class TestDatastores:
    def test_documents_are_taken_in_and_searched(self, admin: httpx2.Client, live: Live) -> None:
        made = admin.post("/create-datastore", json={"name": unique("handbook"), "type": "documents"})
        assert made.status_code == 200
        store = made.json()
        assert store.keys() == {"datastore_id", "name", "type", "created_at"}
        assert store["datastore_id"].startswith("ds_")
        assert store["type"] == "documents"
        assert datetime.fromisoformat(store["created_at"]).tzinfo is not None

        indexed = admin.post(
            "/index-document",
            data={"datastore_id": store["datastore_id"]},
            files={"file": ("holidays.txt", io.BytesIO(b"Everybody has 31 days of holidays."), "text/plain")},
        )
        assert indexed.status_code == 200, indexed.text
        document = indexed.json()
        assert document.keys() == {"document_id", "datastore_id", "filename", "status", "indexed_at"}
        assert document["document_id"].startswith("doc_")
        assert document["filename"] == "holidays.txt"
        assert document["status"] == "indexed"
        assert datetime.fromisoformat(document["indexed_at"]).tzinfo is not None

        question = unique("how many holidays?")
        live.model.when(question, calls(search_documents={"query": "holidays"}), reply("31."))
        datastores = [{"id": store["datastore_id"], "name": store["name"]}]
        assert run(admin, question, datastores=datastores).text() == "31."
        assert "31 days" in results_of(live.model.request_about(question))[0]

    def test_a_database_needs_its_connection_string(self, admin: httpx2.Client) -> None:
        body = {"name": "orders", "type": "database"}

        answer = admin.post("/create-datastore", json=body)

        assert refused(answer, 400, "invalid_datastore")["field"] == "metadata.connectionString"

    def test_a_database_is_queried_by_named_statements(
        self, admin: httpx2.Client, live: Live, postgres_url: str
    ) -> None:
        body = {"name": unique("orders"), "type": "database", "metadata": {"connectionString": postgres_url}}
        store = admin.post("/create-datastore", json=body).json()
        assert "connection" not in json.dumps(store).lower()
        question = unique("which user?")
        live.model.when(question, calls(getUserById={"params": [7]}), reply("Seven."))

        frames = run(
            admin,
            question,
            datastores=[{"id": store["datastore_id"], "name": store["name"]}],
            queries=[
                {"name": "getUserById", "description": "Fetch a user.", "query": "SELECT ?::int + 1 AS next"}
            ],
        )

        assert frames.text() == "Seven."
        assert "8" in results_of(live.model.request_about(question))[0]

    @pytest.mark.parametrize(
        ("body", "field"),
        [({"type": "documents"}, "name"), ({"name": "x"}, "type"), ({"name": "x", "type": "graph"}, "type")],
    )
    def test_name_and_type_are_required(self, admin: httpx2.Client, body: Any, field: str) -> None:
        answer = admin.post("/create-datastore", json=body)

        assert answer.status_code == 400
        assert answer.json()["field"] == field

    def test_file_and_datastore_are_required(self, admin: httpx2.Client) -> None:
        file = ("a.txt", io.BytesIO(b"a"), "text/plain")

        answer = admin.post("/index-document", files={"file": file})
        assert refused(answer, 400, "missing_field")["field"] == "datastore_id"
        answer = admin.post("/index-document", data={"datastore_id": "ds_1"}, files={"other": file})
        assert refused(answer, 400, "missing_field")["field"] == "file"

    def test_an_unknown_datastore_is_404(self, admin: httpx2.Client) -> None:
        files = {"file": ("a.txt", io.BytesIO(b"a"), "text/plain")}

        answer = admin.post("/index-document", data={"datastore_id": "ds_nowhere"}, files=files)

        refused(answer, 404, "datastore_not_found")

    def test_a_document_that_cannot_be_read_is_400(self, admin: httpx2.Client) -> None:
        store = admin.post("/create-datastore", json={"name": unique("d"), "type": "documents"}).json()
        files = {"file": ("broken.pdf", io.BytesIO(b"%PDF-1.7 nothing more"), "application/pdf")}

        answer = admin.post("/index-document", data={"datastore_id": store["datastore_id"]}, files=files)

        refused(answer, 400, "document_unreadable")


def test_three_hundred_streams_are_open_at_once_and_cost_no_thread_each(live: Live, tmp_path: Path) -> None:
    barrier = tmp_path / "barrier"
    answers, threads = waiting_together(
        live,
        300,
        lambda client: client.post("/", json={"message": str(barrier)}, params={"agent": "gated"}),
        barrier,
        "runyard_streams_open",
    )

    assert all('"through"' in answer.text for answer in answers)
    assert all('"agent_completed"' in answer.text for answer in answers)
    assert threads <= 40
