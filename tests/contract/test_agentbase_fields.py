"""The fields of agentbase's run request, each in the forms that callers send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.callbacks import complete, receiver
from tests.contract.frames import Frames, run
from tests.contract.live import Live, unique
from tests.fakes.mcp_servers import mcp_process
from tests.fakes.model_server import reply, system_of, tools_of
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

REMEMBERS = {"agent": "remembers"}
STEP = {"id": "s", "name": "n", "description": "Do it.", "depends_on": []}
WORKFLOW = {"id": "w", "name": "n", "description": "d", "steps": [STEP]}


def options(live: Live, frames: Frames) -> dict[str, Any]:
    """What the stored run was asked for beside its message."""
    found: dict[str, Any] = live.task(frames.events[0]["task_id"])["input"].get("options", {})
    return found


def without(whole: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in whole.items() if name != field}


def field_refused(answer: httpx2.Response) -> str:
    """Which field a 400 is about."""
    assert answer.status_code == 400, answer.text
    return str(answer.json()["field"])


class TestWorkflows:
    def test_every_option_of_a_step_is_stored_as_it_was_sent(self, admin: httpx2.Client, live: Live) -> None:
        step = STEP | {
            "optional": True,
            "retry_policy": {"max_attempts": 3, "backoff": "linear"},
            "output_schema": {"type": "object", "properties": {"verified": {"type": "boolean"}}},
        }

        frames = run(admin, "hi", params=REMEMBERS, workflows=[WORKFLOW | {"steps": [step]}])

        assert options(live, frames)["workflows"] == [WORKFLOW | {"steps": [step]}]

    @pytest.mark.parametrize("field", list(WORKFLOW))
    def test_a_workflow_requires_all_its_fields(self, admin: httpx2.Client, field: str) -> None:
        answer = admin.post("/", json={"message": "hi", "workflows": [without(WORKFLOW, field)]})

        assert field_refused(answer) == f"workflows[0].{field}"

    @pytest.mark.parametrize("field", list(STEP))
    def test_a_step_requires_all_its_fields(self, admin: httpx2.Client, field: str) -> None:
        workflow = WORKFLOW | {"steps": [without(STEP, field)]}

        answer = admin.post("/", json={"message": "hi", "workflows": [workflow]})

        assert field_refused(answer) == f"workflows[0].steps[0].{field}"

    @pytest.mark.parametrize(
        "steps",
        [[STEP, STEP], [STEP | {"depends_on": ["nowhere"]}], [STEP | {"depends_on": ["s"]}], []],
        ids=["two of one id", "an unknown dependency", "itself", "none"],
    )
    def test_steps_that_cannot_be_run_are_400(
        self, admin: httpx2.Client, steps: list[dict[str, Any]]
    ) -> None:
        answer = admin.post("/", json={"message": "hi", "workflows": [WORKFLOW | {"steps": steps}]})

        assert field_refused(answer).startswith("workflows[0]")

    def test_a_backoff_there_is_not_is_400(self, admin: httpx2.Client) -> None:
        step = STEP | {"retry_policy": {"max_attempts": 2, "backoff": "random"}}

        answer = admin.post("/", json={"message": "hi", "workflows": [WORKFLOW | {"steps": [step]}]})

        assert field_refused(answer) == "workflows[0].steps[0].retry_policy.backoff"


class TestOtherFields:
    @pytest.mark.parametrize(
        ("field", "whole"),
        [
            ("agents", {"name": "Sales", "description": "Sells."}),
            ("mcp_servers", {"serverName": "a", "serverUrl": "https://example.com/mcp"}),
            ("datastores", {"id": "ds_1", "name": "handbook"}),
            ("queries", {"name": "q", "description": "d", "query": "SELECT 1"}),
            ("schedules", {"schedule": 10, "message": "m"}),
        ],
    )
    def test_the_objects_of_a_list_require_their_fields(
        self, admin: httpx2.Client, field: str, whole: dict[str, Any]
    ) -> None:
        for name in whole:
            answer = admin.post("/", json={"message": "hi", field: [without(whole, name)]})
            assert field_refused(answer) == f"{field}[0].{name}"

    @pytest.mark.parametrize("name", ["name", "schema"])
    def test_a_final_output_requires_a_name_and_a_schema(self, admin: httpx2.Client, name: str) -> None:
        final = without({"name": "n", "schema": {"type": "object"}, "strict": True}, name)

        answer = admin.post("/", json={"message": "hi", "final_output": final})

        assert field_refused(answer) == f"final_output.{name}"

    def test_a_callback_requires_its_url_alone(self, admin: httpx2.Client) -> None:
        answer = admin.post("/", json={"message": "hi", "callback": {"headers": {}}})

        assert field_refused(answer) == "callback.url"

    @pytest.mark.parametrize(
        "fields",
        [
            {"mcp_servers": [{"serverName": "a", "serverUrl": "https://example.com/mcp", "auth": {}}]},
            {"workflows": [WORKFLOW | {"steps": [STEP | {"retry_policy": {}}]}]},
            {"background": False, "callback": {}, "final_output": {}, "agents": [{}]},
        ],
    )
    def test_an_empty_object_is_nothing_at_any_depth(
        self, admin: httpx2.Client, live: Live, fields: dict[str, Any]
    ) -> None:
        frames = run(admin, "hi", params=REMEMBERS, **fields)

        assert frames.types[-1] == "agent_completed"
        assert "{}" not in str(options(live, frames))

    def test_a_callback_without_background_hears_of_the_run_too(
        self, admin: httpx2.Client, tmp_path: Path
    ) -> None:
        with receiver(tmp_path) as url:
            frames = run(admin, "hi", params=REMEMBERS, callback={"url": url, "headers": None})
            posts = wait_until(lambda: complete(tmp_path / "posts"), seconds=30)

        assert [post.json["type"] for post in posts] == [*frames.types, "run.completed"]
        assert posts[1].json["content"] == frames.text()

    def test_line_ends_within_a_message_end_no_line_of_the_stream(self, admin: httpx2.Client) -> None:
        text = "a\u2028b\u2029c\x85d\r\ne"

        frames = run(admin, text, params={"agent": "echo"})

        assert json.loads(frames.text())["message"] == text
        assert [line for line in frames.raw.splitlines() if line and not line.startswith("data: {")] == []

    def test_mcp_servers_are_forgotten_after_their_call(
        self, admin: httpx2.Client, live: Live, tmp_path: Path
    ) -> None:
        first, second = unique("with a server"), unique("without")
        live.model.when(first, reply("ok"))
        live.model.when(second, reply("ok"))
        with mcp_process(tmp_path) as server:
            servers = [{"serverName": "crm", "serverUrl": server.url}]
            session = run(admin, first, mcp_servers=servers).events[0]["session"]
            assert "crm_find_customer" in tools_of(live.model.request_about(first))
            run(admin, second, params={"session": session})

        assert "crm_find_customer" not in tools_of(live.model.request_about(second))

    def test_stray_fields_of_older_pages_change_nothing(self, admin: httpx2.Client, live: Live) -> None:
        stray: dict[str, Any] = {
            "streaming": True,
            "stream": True,
            "mcpServers": [{"serverName": "a", "serverUrl": "not a url"}],
            "tools": ["web_search"],
            "webhook": {"url": "https://example.com", "events": ["agent_completed"]},
            "hooks": {"before": "x"},
            "capabilities": {"browser": {"enabled": True}},
        }

        frames = run(admin, "hi", params=REMEMBERS, **stray)

        assert frames.types == ["agent_started", "agent_response", "agent_completed"]
        assert options(live, frames) == {}

    def test_a_session_is_form_encoded_in_the_query_of_a_run(self, admin: httpx2.Client, live: Live) -> None:
        name = unique("my session")
        live.run("remembers", query="one", session_id=name)

        again = admin.post(f"/?agent=remembers&session={name.replace(' ', '+')}", json={"message": "two"})

        assert '"content":"1 before: one"' in again.text

    @pytest.mark.parametrize("path", ["/create-datastore", "/create-datastore/"])
    def test_datastores_answer_under_the_prefix_too(self, admin: httpx2.Client, path: str) -> None:
        made = admin.post(f"/agentbase{path}", json={"name": unique("d"), "type": "documents"}).json()
        files = {"file": ("a.txt", b"Anything.", "text/plain")}
        form = {"datastore_id": made["datastore_id"]}

        answer = admin.post(
            path.replace("create-datastore", "agentbase/index-document"), data=form, files=files
        )

        assert answer.json()["datastore_id"] == made["datastore_id"], answer.text


class TestSchedules:
    def test_the_sample_of_the_page_is_taken_whole_and_what_has_passed_runs_at_once(
        self, admin: httpx2.Client
    ) -> None:
        messages = ["in ten seconds", "New Year's Day", "every ten minutes", "on Mondays"]
        moments = [3600, "2025-01-01", "*/10 * * * *", "*/10 * * * 1"]
        schedules = [{"schedule": s, "message": m} for s, m in zip(moments, messages, strict=True)]

        frames = run(admin, "now", params=REMEMBERS, schedules=schedules)

        made = frames.events[0]["schedules"]
        assert [one["kind"] for one in made] == ["delay", "date", "cron", "cron"]
        session = {"session": frames.events[0]["session"]}
        wait_until(
            lambda: messages[1] in [m["content"] for m in admin.post("/get-messages", params=session).json()],
            seconds=30,
        )
        for one in made:
            admin.delete(f"/api/v1/schedules/{one['id']}")

    @pytest.mark.parametrize(
        "moment", ["2099-01-01T10:00:00.000Z", "2099-01-01T10:00:00+00:00", "2099-01-01 10:00"]
    )
    def test_a_date_may_have_a_time(self, admin: httpx2.Client, moment: str) -> None:
        body = {"message": "hi", "background": True, "schedules": [{"schedule": moment, "message": "m"}]}

        [made] = admin.post("/", json=body, params=REMEMBERS).json()["schedules"]

        assert made["next_at"].startswith("2099-01-01T10:00:00")
        assert admin.delete(f"/api/v1/schedules/{made['id']}").status_code in (200, 204)

    def test_an_id_cancels_its_schedule_as_a_task_id_would(self, admin: httpx2.Client) -> None:
        frames = run(admin, "plan", params=REMEMBERS, schedules=[{"schedule": 3600, "message": "later"}])
        [made] = frames.events[0]["schedules"]

        assert admin.post(f"/tasks/{made['id']}/cancel").status_code == 204

        assert admin.get(f"/api/v1/schedules/{made['id']}").status_code == 404

    @pytest.mark.parametrize("moment", [-1, 0, "* * * *", "61 * * * *", "2025-02-30", None, True, {}])
    def test_what_is_no_moment_is_400(self, admin: httpx2.Client, moment: object) -> None:
        body = {"message": "hi", "schedules": [{"schedule": moment, "message": "m"}]}

        assert field_refused(admin.post("/", json=body, params=REMEMBERS)) == "schedules[0].schedule"


class TestBackground:
    def test_a_run_that_failed_shows_why(self, admin: httpx2.Client, live: Live) -> None:
        body = {"message": "hi", "background": True}
        task_id = admin.post("/", json=body, params={"agent": "spends"}).json()["taskId"]
        live.until(task_id, "failed")

        status = admin.get(f"/agentbase/tasks/{task_id}").json()

        assert (status["status"], status["error"]) == ("failed", "The budget is spent.")
        assert admin.get(f"/agentbase/tasks/{task_id}/result").json()["result"] is None

    def test_a_run_that_was_stopped_is_cancelled(self, admin: httpx2.Client, live: Live) -> None:
        task_id = admin.post(
            "/", json={"message": "hi", "background": True}, params={"agent": "asks"}
        ).json()["taskId"]
        live.until(task_id, "waiting_for_input")
        assert admin.get(f"/agentbase/tasks/{task_id}/").json()["status"] == "running"
        admin.post(f"/tasks/{task_id}/cancel")
        live.until(task_id, "stopped")

        assert admin.get(f"/agentbase/tasks/{task_id}").json()["status"] == "cancelled"


def test_another_body_under_the_same_idempotency_key_is_422(admin: httpx2.Client) -> None:
    headers = {"idempotency-key": unique("k")}
    first = admin.post("/", json={"message": "one", "background": True}, params=REMEMBERS, headers=headers)
    other = admin.post("/", json={"message": "two", "background": True}, params=REMEMBERS, headers=headers)

    assert (first.status_code, other.status_code) == (200, 422)
    assert other.json()["error"]
    assert other.json()["code"]


def test_without_a_system_prompt_the_products_own_is_used(admin: httpx2.Client, live: Live) -> None:
    question = unique("no system")
    live.model.when(question, reply("ok"))

    assert run(admin, question, system=None, rules=None, mode=None, callback=None).text() == "ok"

    assert system_of(live.model.request_about(question))
