"""The nara contract, fact by fact (docs/fronts/nara.md)."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract import typescript
from tests.contract.live import Live, waiting_together
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

TRIAGE = {"agentName": "support_triage", "args": {"ticketId": "TCK-1", "priority": "high", "language": "en"}}
API_UUID = re.compile(r"api-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def run(client: httpx2.Client, name: str, args: Any = None, **options: Any) -> httpx2.Response:
    body = {"agentName": name, "args": {} if args is None else args}
    return client.post("/api/agent/run", json=body, **options)


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The error body, in the form nara's clients read."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["success"] is False
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["code"] == code
    return body


class TestRun:
    def test_a_run_answers_with_the_result_in_camel_case(self, admin: httpx2.Client) -> None:
        answer = admin.post("/api/agent/run", json=TRIAGE)

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert body.keys() == {"success", "sessionId", "agent", "output", "messages", "agentExecutionId"}
        assert body["success"] is True
        assert body["agent"] == "support_triage"
        assert body["output"] == {
            "category": "billing",
            "nextStep": "escalate_to_human",
            "summary": "TCK-1 is billing.",
        }

    def test_the_session_id_is_api_and_a_uuid_and_each_call_is_its_own(self, admin: httpx2.Client) -> None:
        first, second = (admin.post("/api/agent/run", json=TRIAGE).json()["sessionId"] for _ in range(2))

        assert API_UUID.fullmatch(first)
        assert API_UUID.fullmatch(second)
        assert first != second

    def test_the_session_and_the_task_are_known_to_the_native_api(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        body = admin.post("/api/agent/run", json=TRIAGE).json()

        task = live.task(body["sessionId"].removeprefix("api-"))
        assert body["agentExecutionId"] == task["task_id"]
        assert task["front"] == "nara"
        assert task["status"] == "completed"
        assert task["input"]["args"] == TRIAGE["args"]
        session = admin.get(f"/api/v1/sessions/{body['sessionId']}").json()
        assert session["id"] == task["session_id"]

    def test_messages_are_assistant_messages_of_parts(self, admin: httpx2.Client) -> None:
        messages = admin.post("/api/agent/run", json=TRIAGE).json()["messages"]

        assert [message["role"] for message in messages] == ["assistant"]
        part = messages[0]["parts"][-1]
        assert part["type"] == "text"
        assert "TCK-1 is billing." in part["text"]

    def test_messages_show_what_the_agent_did(self, admin: httpx2.Client) -> None:
        parts = run(admin, "narrator").json()["messages"][0]["parts"]

        assert [part["type"] for part in parts] == ["data-progress", "data-custom", "text"]
        assert parts[1]["data"] == {"name": "milestone", "data": {"name": "middle"}}

    @pytest.mark.parametrize(
        ("value", "output"),
        [
            (None, {}),
            ("", {"result": ""}),
            (0, {"result": 0}),
            (False, {"result": False}),
            ({}, {}),
            ([], []),
            ("text", "text"),
            (3, 3),
        ],
    )
    def test_the_output_is_never_falsy_in_javascript(
        self, admin: httpx2.Client, value: Any, output: Any
    ) -> None:
        assert run(admin, "gives", {"value": value}).json()["output"] == output

    def test_any_name_of_the_agent_will_do(self, admin: httpx2.Client) -> None:
        for name in ("gives", "@default/gives", "GIVES"):
            body = run(admin, name, {"value": 1}).json()
            assert body["success"] is True
            assert body["agent"] == name

    def test_unknown_fields_are_tolerated(self, admin: httpx2.Client) -> None:
        assert admin.post("/api/agent/run", json=TRIAGE | {"trace": True}).status_code == 200

    def test_the_same_idempotency_key_runs_once(self, admin: httpx2.Client) -> None:
        headers = {"idempotency-key": f"nara-{time.time()}"}

        first, second = (run(admin, "gives", {"value": 1}, headers=headers) for _ in range(2))

        assert first.json() == second.json()


class TestRefusals:
    @pytest.mark.parametrize(
        ("args", "field"),
        [
            ({"ticketId": "T"}, "args.priority"),
            ({"ticketId": "T", "priority": "urgent"}, "args.priority"),
            ({"ticketId": 7, "priority": "low"}, "args.ticketId"),
            ("text", "args"),
        ],
    )
    def test_args_that_break_the_schema_are_400(self, admin: httpx2.Client, args: Any, field: str) -> None:
        body = refused(run(admin, "support_triage", args), 400, "invalid_input")

        assert body["field"] == field

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"args": {}}, "missing_field"),
            ({"agentName": "gives"}, "missing_field"),
            ({"agentName": "gives", "args": None}, "missing_field"),
            ({"agentName": "", "args": {}}, "invalid_field"),
            ({"agentName": 7, "args": {}}, "invalid_field"),
            ([1], "not_an_object"),
        ],
    )
    def test_a_bad_body_is_400(self, admin: httpx2.Client, body: Any, code: str) -> None:
        refused(admin.post("/api/agent/run", json=body), 400, code)

    def test_a_body_that_is_no_json_is_400(self, admin: httpx2.Client) -> None:
        answer = admin.post("/api/agent/run", content=b"{nope", headers={"content-type": "application/json"})

        refused(answer, 400, "bad_json")

    def test_a_body_of_another_type_is_415(self, admin: httpx2.Client) -> None:
        refused(
            admin.post("/api/agent/run", content=b"a=1", headers={"content-type": "text/plain"}),
            415,
            "unsupported_media_type",
        )

    def test_an_unknown_agent_is_404(self, admin: httpx2.Client) -> None:
        refused(run(admin, "missing"), 404, "agent_not_found")

    def test_another_organisations_agent_is_404(self, admin: httpx2.Client, live: Live) -> None:
        _, key = live.new_organisation()
        with live.client(key) as other:
            made = other.post("/api/v1/agents", json={"name": "private agent"})
            assert made.status_code == 201, made.text

        refused(run(admin, "private_agent"), 404, "agent_not_found")

    def test_an_inactive_agent_is_404(self, admin: httpx2.Client) -> None:
        made = admin.post("/api/v1/agents", json={"name": "asleep", "is_active": False}).json()

        refused(run(admin, made["full_name"]), 404, "agent_not_found")

    def test_a_chat_agent_is_400(self, admin: httpx2.Client) -> None:
        refused(run(admin, "chat_only"), 400, "agent_not_functional")

    def test_an_agent_that_fails_is_500(self, admin: httpx2.Client, live: Live) -> None:
        body = refused(
            run(admin, "@demo/failer", {"message": "no luck", "code": "out_of_luck"}), 500, "out_of_luck"
        )

        assert body["error"] == "no luck"
        assert live.task(body["taskId"])["status"] == "failed"

    def test_a_run_out_of_money_is_402(self, admin: httpx2.Client) -> None:
        refused(run(admin, "spends"), 402, "budget_exhausted")

    def test_an_organisation_without_credits_is_402(self, live: Live) -> None:
        _, key = live.new_organisation(balance_micros=0)
        with live.client(key) as broke:
            refused(run(broke, "gives", {"value": 1}), 402, "quota_exceeded")

    def test_a_run_that_outlasts_the_wait_is_504_and_goes_on(
        self, live: Live, impatient: str, tmp_path: Path
    ) -> None:
        with live.client(name=impatient) as client:
            body = refused(run(client, "gated", {"gate": str(tmp_path / "gate")}), 504, "wait_timeout")

        (tmp_path / "gate").touch()
        assert live.until(body["taskId"])["output"] == "through"

    def test_a_run_that_waits_for_a_person_is_504_and_can_be_answered(
        self, live: Live, impatient: str
    ) -> None:
        with live.client(name=impatient) as client:
            body = refused(run(client, "asks"), 504, "wait_timeout")

        live.until(body["taskId"], "waiting_for_input")
        live.request("POST", f"/tasks/{body['taskId']}/message", {"message": "green"})
        assert live.until(body["taskId"])["output"] == "You like green."

    def test_other_methods_are_405(self, admin: httpx2.Client) -> None:
        answer = admin.put("/api/agent/run", json=TRIAGE)

        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD, POST"


class TestWhoMayCall:
    def test_no_token_is_401(self, live: Live) -> None:
        with live.client("") as anonymous:
            refused(anonymous.post("/api/agent/run", json=TRIAGE), 401, "missing_credentials")
            refused(anonymous.get("/api/agent/run"), 401, "missing_credentials")

    def test_an_invalid_token_is_401(self, live: Live) -> None:
        with live.client("ry_" + "0" * 48) as stranger:
            refused(run(stranger, "gives"), 401, "key_unknown")
        with live.client(live.token()[:-4] + "AAAA") as forger:
            refused(run(forger, "gives"), 401, "token_invalid")

    def test_a_revoked_token_is_401(self, live: Live, admin: httpx2.Client) -> None:
        key = live.key_of("admin")
        [row] = [k for k in admin.get("/api/v1/keys").json()["data"] if key.startswith(k["prefix"])]
        assert admin.delete(f"/api/v1/keys/{row['id']}").status_code == 204

        with live.client(key) as gone:
            refused(run(gone, "gives"), 401, "key_revoked")

    def test_a_deactivated_organisation_is_401(self, live: Live) -> None:
        _, key = live.new_organisation(active=False)

        with live.client(key) as closed:
            refused(run(closed, "gives"), 401, "organisation_inactive")

    @pytest.mark.parametrize("role", ["member", "viewer"])
    def test_a_caller_that_is_no_admin_is_403(self, live: Live, role: str) -> None:
        for credentials in (live.key_of(role), live.token(roles=[role])):
            with live.client(credentials) as client:
                refused(run(client, "gives"), 403, "admin_required")
                refused(client.get("/api/agent/run"), 403, "admin_required")

    @pytest.mark.parametrize("role", ["admin", "owner"])
    def test_a_jwt_of_an_administrator_will_do(self, live: Live, role: str) -> None:
        with live.client(live.token(roles=[role])) as client:
            assert run(client, "gives", {"value": 1}).json()["output"] == 1

    def test_a_jwt_may_name_one_role_without_a_list(self, live: Live) -> None:
        with live.client(live.token(roles="admin")) as client:
            assert run(client, "gives", {"value": 1}).status_code == 200

    def test_an_admin_key_without_the_scope_is_403(self, live: Live) -> None:
        with live.client(live.key_of("admin", ["agents:read"])) as client:
            refused(run(client, "gives"), 403, "missing_permission")
            assert client.get("/api/agent/run").status_code == 200


class TestList:
    def test_it_lists_functional_agents_by_name_alone(self, admin: httpx2.Client) -> None:
        answer = admin.get("/api/agent/run")

        assert answer.status_code == 200
        assert answer.json().keys() == {"agents"}
        names = [agent["name"] for agent in answer.json()["agents"]]
        assert all(agent.keys() == {"name"} for agent in answer.json()["agents"])
        assert {"support_triage", "gives", "echo"} <= set(names)
        assert "chat_only" not in names
        assert len(set(names)) == len(names)

    def test_every_listed_name_is_accepted(self, live: Live, impatient: str) -> None:
        with live.client(name=impatient) as client, ThreadPoolExecutor(8) as callers:
            names = [agent["name"] for agent in client.get("/api/agent/run").json()["agents"]]
            answers = callers.map(lambda name: run(client, name, "never right").status_code, names)
            assert 404 not in dict(zip(names, answers, strict=True)).values()

    def test_two_agents_of_one_short_name_are_distinct(self, admin: httpx2.Client, live: Live) -> None:
        names = {agent["name"] for agent in admin.get("/api/agent/run").json()["agents"]}
        full = [
            agent["full_name"]
            for agent in admin.get("/api/v1/agents?limit=100").json()["data"]
            if agent["full_name"].endswith("/echo")
        ]
        assert "echo" in names
        assert len(names & {"echo", *full}) == len(full)

    def test_it_leaves_out_inactive_agents_and_those_of_others(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        manifest = {"name": "switched_off", "version": "1.0.0", "instructions": "x"}
        _, key = live.new_organisation()
        with live.client(key) as other:
            assert other.post("/api/v1/agents/manifests", json=manifest).status_code < 300
            assert "switched_off" in [a["name"] for a in other.get("/api/agent/run").json()["agents"]]

        assert "switched_off" not in [a["name"] for a in admin.get("/api/agent/run").json()["agents"]]


class TestThePagesOwnSample:
    """The TypeScript of the page, unchanged but for base URL and key."""

    SAMPLE = Path(__file__).parent / "pages" / "nara.ts"

    def test_it_prints_the_result(self, live: Live) -> None:
        args = {"ticketId": "TCK-12345", "priority": "high", "language": "en"}
        env = {"BASE_URL": live.url(), "NARA_ADMIN_TOKEN": live.token()}

        printed = json.loads(typescript.run(self.SAMPLE, json.dumps(args), env=env))

        assert printed == {
            "category": "billing",
            "nextStep": "escalate_to_human",
            "summary": "TCK-12345 is billing.",
        }

    def test_it_throws_on_a_refusal(self, live: Live) -> None:
        env = {"BASE_URL": live.url(), "NARA_ADMIN_TOKEN": live.token()}

        printed = json.loads(typescript.run(self.SAMPLE, "{}", env=env))

        assert printed == {"thrown": "Agent call failed with status 400"}


def test_the_path_may_end_with_a_slash(admin: httpx2.Client) -> None:
    assert admin.post("/api/agent/run/", json=TRIAGE).json()["success"] is True
    assert admin.get("/api/agent/run/").status_code == 200


def test_a_client_that_leaves_does_not_stop_the_run(live: Live, tmp_path: Path) -> None:
    barrier = tmp_path / "barrier"

    def mine() -> list[str]:
        found = [task["task_id"] for task in live.request("GET", "/tasks?limit=10")[1]["data"]]
        return [task_id for task_id in found if str(barrier) in str(live.task(task_id)["input"])]

    with live.client(live.key_of("admin")) as client, pytest.raises(httpx2.ReadTimeout):
        run(client, "gated", {"gate": str(barrier)}, timeout=1.0)

    (task_id,) = wait_until(mine)
    barrier.touch()
    assert live.until(task_id)["status"] == "completed"


def test_three_hundred_callers_wait_at_once_and_cost_no_thread_each(live: Live, tmp_path: Path) -> None:
    answers, most_threads = waiting_together(
        live,
        300,
        lambda client: client.post(
            "/api/agent/run", json={"agentName": "gated", "args": {"gate": str(tmp_path / "gate")}}
        ),
        tmp_path / "gate",
    )

    assert {answer.status_code for answer in answers} == {200}
    assert most_threads <= 40
