"""The nanonets contract (docs/fronts/nanonets.md): the summary, the result and the messages of a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.live import Live, unique
from tests.contract.nanonets import STATUSES, V1, is_uuid, moment, refused, run

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def done(admin: httpx2.Client, live: Live) -> dict[str, Any]:
    """A task that has completed."""
    return live.until(run(admin, "ledger", unique("add up"))["task_id"])


@pytest.fixture(scope="module")
def asked(admin: httpx2.Client, live: Live) -> dict[str, Any]:
    """A task that waits for input."""
    return live.until(run(admin, "asks")["task_id"], "waiting_for_input")


class TestSummary:
    def test_a_completed_task_has_its_answer_and_when(
        self, admin: httpx2.Client, live: Live, done: dict[str, Any]
    ) -> None:
        summary = admin.get(f"{V1}/tasks/{done['task_id']}/summary").json()

        assert summary["task_id"] == done["task_id"]
        assert summary["result"]["summary"] == {"total": 7}
        moment(summary["result"]["completed_at"])
        assert summary["extracted_data"] == {"total": 7}

    def test_an_output_with_a_summary_gives_that(self, admin: httpx2.Client, live: Live) -> None:
        task_id = run(admin, "gives", args={"value": {"summary": "In short.", "more": 1}})["task_id"]
        live.until(task_id)

        assert admin.get(f"{V1}/tasks/{task_id}/summary").json()["result"]["summary"] == "In short."

    def test_before_the_end_it_is_the_last_message(self, admin: httpx2.Client, asked: dict[str, Any]) -> None:
        assert admin.get(f"{V1}/tasks/{asked['task_id']}/summary").json()["result"] == "Which colour?"

    def test_without_messages_there_is_none(self, admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
        task_id = run(admin, "gated", args={"gate": str(tmp_path / "gate")})["task_id"]

        assert "result" not in admin.get(f"{V1}/tasks/{task_id}/summary").json()
        (tmp_path / "gate").touch()
        live.until(task_id)


class TestResult:
    def test_the_feed_is_in_order_and_ends_with_task_complete(
        self, admin: httpx2.Client, done: dict[str, Any]
    ) -> None:
        result = admin.get(f"{V1}/tasks/{done['task_id']}/result").json()

        assert result["task_id"] == done["task_id"]
        times = [moment(item["created_at"]) for item in result["feed"]]
        assert times == sorted(times)
        last = result["feed"][-1]
        assert last["type"] == "task_complete"
        assert last["structuredContent"]["summary"] == last["result"] == {"total": 7}

    def test_a_failed_tasks_feed_holds_the_trail(self, admin: httpx2.Client, live: Live) -> None:
        task_id = run(admin, "spends")["task_id"]
        assert live.until(task_id)["status"] == "failed"

        feed = admin.get(f"{V1}/tasks/{task_id}/result").json()["feed"]

        assert "The budget is spent." in json.dumps(feed)
        assert "task_complete" not in [item["type"] for item in feed]


class TestMessages:
    def test_the_log_is_chronological_with_the_fields_of_the_contract(
        self, admin: httpx2.Client, asked: dict[str, Any]
    ) -> None:
        lines = admin.get(f"{V1}/tasks/{asked['task_id']}/messages").json()["data"]

        fields = {"id", "task_id", "agent_id", "content", "created_at", "user_id", "parent_id", "role"}
        assert all(line.keys() >= fields for line in lines)
        assert lines[0]["content"] == "hi"
        times = [moment(line["created_at"]) for line in lines]
        assert times == sorted(times)

    def test_the_newest_of_the_assistant_is_the_pending_question(
        self, admin: httpx2.Client, asked: dict[str, Any]
    ) -> None:
        lines = admin.get(f"{V1}/tasks/{asked['task_id']}/messages").json()["data"]

        assert [line["content"] for line in lines if line["role"] == "assistant"][-1] == "Which colour?"

    def test_a_message_answers_and_the_task_goes_on_within_a_second_or_so(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        task_id = run(admin, "asks")["task_id"]
        live.until(task_id, "waiting_for_input")

        answer = admin.post(f"{V1}/tasks/{task_id}/message", json={"message": "green"})

        assert answer.status_code == 202
        body = answer.json()
        assert is_uuid(body["message_id"])
        assert body["status"] in STATUSES
        assert isinstance(body["message"], str)
        assert live.until(task_id)["output"] == "You like green."
        lines = admin.get(f"{V1}/tasks/{task_id}/messages").json()["data"]
        assert body["message_id"] in {line["id"] for line in lines}

    def test_a_running_task_takes_messages_too(
        self, admin: httpx2.Client, live: Live, tmp_path: Path
    ) -> None:
        task_id = run(admin, "gated", args={"gate": str(tmp_path / "gate")})["task_id"]
        live.until(task_id, "running")

        answer = admin.post(f"{V1}/tasks/{task_id}/message", json={"message": "by the way"})

        assert answer.status_code == 202, answer.text
        (tmp_path / "gate").touch()
        live.until(task_id)

    def test_a_message_to_a_task_that_has_ended_is_409(
        self, admin: httpx2.Client, done: dict[str, Any]
    ) -> None:
        refused(admin.post(f"{V1}/tasks/{done['task_id']}/message", json={"message": "more"}), 409)

    def test_a_message_without_text_is_400(self, admin: httpx2.Client, asked: dict[str, Any]) -> None:
        for body in ({}, {"message": ""}):
            refused(admin.post(f"{V1}/tasks/{asked['task_id']}/message", json=body), 400)
