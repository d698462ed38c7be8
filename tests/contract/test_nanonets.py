"""The nanonets contract, fact by fact (docs/fronts/nanonets.md)."""

from __future__ import annotations

import json
import subprocess
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.live import Live, unique
from tests.contract.nanonets import STATUSES, V1, create, id_of, is_uuid, moment, refused, run
from tests.fakes.model_server import calls, system_of

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def done(admin: httpx2.Client, live: Live) -> dict[str, Any]:
    """A task that has completed."""
    return live.until(run(admin, "ledger", unique("add up"))["task_id"])


@pytest.fixture(scope="module")
def asked(admin: httpx2.Client, live: Live) -> dict[str, Any]:
    """A task that waits for input."""
    return live.until(run(admin, "asks")["task_id"], "waiting_for_input")


class TestRun:
    def test_the_answer_has_the_five_required_fields(self, admin: httpx2.Client) -> None:
        agent_id = id_of(admin, "ledger")

        answer = admin.post(f"{V1}/agents/{agent_id}/run", json={"query": "hi"})

        assert answer.status_code == 202
        body = answer.json()
        assert body.keys() >= {"task_id", "agent_id", "status", "message", "created_at"}
        assert is_uuid(body["task_id"])
        assert body["agent_id"] == agent_id
        assert body["status"] in STATUSES
        moment(body["created_at"])

    def test_the_message_points_to_the_status(self, admin: httpx2.Client) -> None:
        body = run(admin, "ledger")

        expected = f"Task created successfully. Use GET /v1/tasks/{body['task_id']} to check status."
        assert body["message"] == expected

    def test_it_answers_before_the_agent_has_ended(self, admin: httpx2.Client, live: Live) -> None:
        body = run(admin, "waits", args={"seconds": 1})

        assert live.task(body["task_id"])["status"] not in {"completed", "failed", "stopped"}
        assert live.until(body["task_id"])["status"] == "completed"

    @pytest.mark.parametrize("part", ["files", "file", "files.items"])
    def test_a_file_comes_under_each_published_name(
        self, admin: httpx2.Client, live: Live, part: str
    ) -> None:
        answer = admin.post(f"{V1}/agents/ledger/run", files={part: ("a.txt", b"text", "text/plain")})

        assert answer.status_code == 202, answer.text
        [file] = live.task(answer.json()["task_id"])["input"]["files"]
        assert file["name"] == "a.txt"

    def test_files_repeats_for_several(self, admin: httpx2.Client, live: Live) -> None:
        parts = [("files", (name, b"text", "text/plain")) for name in ("a.txt", "b.txt")]

        answer = admin.post(f"{V1}/agents/ledger/run", files=parts)

        files = live.task(answer.json()["task_id"])["input"]["files"]
        assert [file["name"] for file in files] == ["a.txt", "b.txt"]

    def test_a_text_part_named_files_and_unknown_parts_are_ignored(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        parts = {"query": (None, "hi"), "files": (None, "text"), "request_metadata": (None, "{}")}

        answer = admin.post(f"{V1}/agents/ledger/run", files=parts)

        assert answer.status_code == 202, answer.text
        assert "files" not in live.task(answer.json()["task_id"])["input"]

    def test_without_query_and_file_it_is_400(self, admin: httpx2.Client) -> None:
        refused(admin.post(f"{V1}/agents/ledger/run", json={}), 400)
        refused(admin.post(f"{V1}/agents/ledger/run", files={"other": (None, "x")}), 400)

    @pytest.mark.parametrize("as_text", [True, False])
    def test_output_config_is_text_in_a_form_and_an_object_in_json(
        self, admin: httpx2.Client, live: Live, as_text: bool
    ) -> None:
        question = unique("totals?")
        live.model.when(question, calls(final_result={"total": 4}))
        schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
        config = {"output_schema": json.dumps(schema), "instructions": "Round down."}
        agent = create(admin, system_prompt="Sum up.")

        if as_text:
            parts = {"query": (None, question), "output_config": (None, json.dumps(config))}
            answer = admin.post(f"{V1}/agents/{agent['id']}/run", files=parts)
        else:
            body = {"query": question, "output_config": config}
            answer = admin.post(f"{V1}/agents/{agent['id']}/run", json=body)

        task = live.until(answer.json()["task_id"])
        assert task["output"] == {"total": 4}
        assert "Round down." in system_of(live.model.request_about(question))
        summary = admin.get(f"{V1}/tasks/{task['task_id']}/summary").json()
        assert summary["extracted_data"] == {"total": 4}

    def test_output_schema_may_be_prose(self, admin: httpx2.Client, live: Live) -> None:
        question = unique("in prose?")
        live.model.when(question, calls(final_result={"total": 4}))
        agent = create(admin, system_prompt="Sum up.")

        task = run(admin, agent["id"], question, output_config={"output_schema": "one number"})

        assert live.until(task["task_id"])["output"] == {"total": 4}
        assert "one number" in json.dumps(live.model.request_about(question)["messages"])

    def test_an_agent_that_is_not_active_is_403(self, admin: httpx2.Client) -> None:
        agent = create(admin)
        admin.patch(f"{V1}/agents/{agent['id']}", json={"is_active": False})

        refused(admin.post(f"{V1}/agents/{agent['id']}/run", json={"query": "hi"}), 403)

    def test_the_agents_group_id_runs_it_too(self, admin: httpx2.Client) -> None:
        agent = admin.get(f"{V1}/agents/ledger").json()

        assert run(admin, agent["agent_group_id"])["agent_id"] == agent["id"]

    def test_the_pages_own_sample_is_accepted(self, admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
        """Only base URL, key and the agent's id are other; curl takes `<string>` for a file of that name."""
        (tmp_path / "example-file").write_text("text")
        (tmp_path / "string>").write_text('{"instructions": "Be brief."}')
        url = live.url(f"/api/v1/agents/{id_of(admin, 'ledger')}/run")

        done = subprocess.run(
            [
                *("curl", "--silent", "--request", "POST", "--url", url),
                *("--header", f"Authorization: Bearer {live.key}"),
                *("--header", "Content-Type: multipart/form-data"),
                *("--form", "query=<string>"),
                *("--form", "files=<string>"),
                *("--form", "output_config=<string>"),
                *("--form", "files.items=@example-file"),
            ],
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=True,
        )

        created = json.loads(done.stdout)
        assert created.keys() >= {"task_id", "agent_id", "status", "message", "created_at"}, created
        task = live.until(created["task_id"])
        assert task["input"]["message"] == '{"instructions": "Be brief."}'
        assert task["input"]["output_config"] == {"instructions": "Be brief."}
        assert [file["name"] for file in task["input"]["files"]] == ["example-file"]


class TestTheTask:
    def test_it_has_its_status_and_times(self, admin: httpx2.Client, done: dict[str, Any]) -> None:
        task = admin.get(f"{V1}/tasks/{done['task_id']}").json()

        assert task.keys() >= {"task_id", "agent_id", "status", "title", "created_at", "updated_at"}
        assert "feed" not in task
        assert moment(task["created_at"]) <= moment(task["updated_at"])

    def test_its_title_comes_from_the_first_message(self, done: dict[str, Any]) -> None:
        assert done["title"] == done["input"]["message"]

    def test_a_task_that_waits_for_input_shows_it(self, asked: dict[str, Any]) -> None:
        assert asked["status"] == "waiting_for_input"

    def test_a_sensitive_step_awaits_review(self, admin: httpx2.Client, live: Live) -> None:
        task_id = run(admin, "reviewed")["task_id"]
        live.until(task_id, "awaiting_review")

        admin.post(f"{V1}/tasks/{task_id}/review", json={"action": "approve"})

        assert live.until(task_id)["status"] == "completed"

    def test_an_agent_at_its_limit_queues(self, admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
        limit = {"kind": "agent", "selector": "@default/gated", "max_concurrent": 1}
        made = admin.post(f"{V1}/limits", json=limit).json()
        try:
            first, second = (run(admin, "gated", args={"gate": str(tmp_path / "gate")}) for _ in range(2))
            assert second["status"] == "queued"
            (tmp_path / "gate").touch()
            assert live.until(second["task_id"])["status"] == "completed"
            live.until(first["task_id"])
        finally:
            admin.delete(f"{V1}/limits/{made['id']}")


class TestList:
    def test_it_is_newest_first_with_what_the_contract_names(
        self, admin: httpx2.Client, done: dict[str, Any]
    ) -> None:
        page = admin.get(f"{V1}/tasks").json()

        assert page.keys() >= {"data", "has_more", "next_cursor"}
        assert len(page["data"]) <= 20
        times = [moment(task["created_at"]) for task in page["data"]]
        assert times == sorted(times, reverse=True)
        fields = {"task_id", "agent_id", "status", "created_at", "updated_at", "agent_name", "title"}
        assert page["data"][0].keys() >= fields

    def test_the_cursor_leads_through_all_of_it_and_ends_as_null(self, admin: httpx2.Client) -> None:
        agent = create(admin, system_prompt="x")
        made = [run(admin, agent["id"])["task_id"] for _ in range(3)]
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            parameters = {"agent_id": agent["id"], "limit": 2} | ({"cursor": cursor} if cursor else {})
            page = admin.get(f"{V1}/tasks", params=parameters).json()
            seen += [task["task_id"] for task in page["data"]]
            cursor = page["next_cursor"]
            assert page["has_more"] is (cursor is not None)

        assert seen == made[::-1]

    @pytest.mark.parametrize("limit", [0, 101])
    def test_a_limit_out_of_range_is_400(self, admin: httpx2.Client, limit: int) -> None:
        refused(admin.get(f"{V1}/tasks?limit={limit}"), 400)

    def test_it_is_filtered_by_agent_status_title_and_time(
        self, admin: httpx2.Client, done: dict[str, Any]
    ) -> None:
        at = done["created_at"]
        fits: dict[str, str] = {
            "agent_id": done["agent_id"],
            "status": "failed,completed",
            "q": done["title"].upper(),
            "created_after": at,
            "created_before": at,
        }
        later = (moment(at) + timedelta(seconds=1)).isoformat()
        misses = {"status": "failed", "q": "never sent", "created_after": later}

        def found(parameters: dict[str, str]) -> bool:
            tasks = admin.get(f"{V1}/tasks", params={"limit": "100"} | parameters).json()["data"]
            return any(task["task_id"] == done["task_id"] for task in tasks)

        assert found(fits)
        for name, value in misses.items():
            assert not found(fits | {name: value}), name


class TestCancel:
    def test_it_answers_with_the_task_as_it_is_now(self, admin: httpx2.Client, live: Live) -> None:
        task_id = run(admin, "asks")["task_id"]

        answer = admin.post(f"{V1}/tasks/{task_id}/cancel")

        assert answer.status_code == 200
        fields = {"task_id", "agent_id", "status", "created_at", "updated_at", "title"}
        assert answer.json().keys() >= fields
        assert live.until(task_id)["status"] == "stopped"

    def test_cancelling_again_changes_nothing(self, admin: httpx2.Client, live: Live) -> None:
        task_id = run(admin, "asks")["task_id"]
        first = admin.post(f"{V1}/tasks/{task_id}/cancel").json()
        second = admin.post(f"{V1}/tasks/{task_id}/cancel").json()

        assert (first["status"], second["status"]) == ("stopped", "stopped")
        assert second["updated_at"] == first["updated_at"]

    def test_a_task_that_completed_is_409(self, admin: httpx2.Client, done: dict[str, Any]) -> None:
        refused(admin.post(f"{V1}/tasks/{done['task_id']}/cancel"), 409)


class TestErrors:
    def test_every_error_has_a_text(self, admin: httpx2.Client) -> None:
        answer = admin.get(f"{V1}/tasks/{uuid.uuid4()}")

        assert refused(answer, 404) == answer.json()["detail"]

    def test_a_bad_uuid_is_400(self, admin: httpx2.Client) -> None:
        refused(admin.get(f"{V1}/tasks/not-a-uuid"), 400)
        refused(admin.get(f"{V1}/agents/not-a-uuid"), 400)
        refused(admin.post(f"{V1}/agents/not-a-uuid/run", json={"query": "hi"}), 400)

    @pytest.mark.parametrize("header", [None, "Basic abc", "Bearer", "Bearer ry_unknown"])
    def test_missing_or_unknown_keys_are_401(self, live: Live, header: str | None) -> None:
        headers = {"authorization": header} if header else {}
        with live.client("") as anonymous:
            refused(anonymous.get(f"{V1}/tasks", headers=headers), 401)

    def test_a_revoked_key_ends_at_once_and_its_tasks_go_on(
        self, live: Live, admin: httpx2.Client, revocable: tuple[str, str]
    ) -> None:
        key, id_ = revocable
        with live.client(key) as client:
            task_id = run(client, "waits", args={"seconds": 1})["task_id"]
            assert admin.delete(f"{V1}/keys/{id_}").status_code == 204
            refused(client.get(f"{V1}/tasks"), 401)

        assert live.until(task_id)["status"] == "completed"

    def test_another_workspaces_task_and_agent_are_404(
        self, live: Live, admin: httpx2.Client, done: dict[str, Any]
    ) -> None:
        _, key = live.new_organisation()
        mine = create(admin)
        with live.client(key) as stranger:
            refused(stranger.get(f"{V1}/tasks/{done['task_id']}"), 404)
            refused(stranger.post(f"{V1}/agents/{mine['id']}/run", json={"query": "hi"}), 404)


@pytest.fixture
def revocable(admin: httpx2.Client) -> tuple[str, str]:
    """A key and its id."""
    made = admin.post(f"{V1}/keys", json={"name": "spare", "role": "admin"}).json()
    return made["key"], made["id"]
