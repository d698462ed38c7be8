"""The agentbase contract (docs/fronts/agentbase.md): sessions, their messages, and schedules."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import httpx2
import pytest

from tests.contract.agentbase import refused, session_of
from tests.contract.frames import run
from tests.contract.live import Live, unique
from tests.fakes.mcp_servers import mcp_process
from tests.fakes.model_server import calls, reply, text_of
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def remembering() -> dict[str, str]:
    """The parameter that names an agent which needs no model."""
    return {"agent": "remembers"}


class TestSessions:
    def test_without_a_session_each_call_begins_one(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        first, second = (session_of(run(admin, "hi", params=remembering)) for _ in range(2))

        assert first != second

    def test_a_session_goes_on_with_its_history(self, admin: httpx2.Client, live: Live) -> None:
        first, second = unique("I am Ada."), unique("Who am I?")
        live.model.when(first, reply("Hello Ada."))
        live.model.when(second, reply("Ada."))
        session = session_of(run(admin, first))

        again = run(admin, second, params={"session": session})

        assert session_of(again) == session
        conversation = [
            (m["role"], text_of(m))
            for m in live.model.request_about(second)["messages"]
            if m["role"] != "system"
        ]
        assert conversation == [("user", first), ("assistant", "Hello Ada."), ("user", second)]

    def test_a_session_known_by_a_name_with_a_space_comes_form_encoded(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        name = unique("my session")
        live.run("remembers", query="hi", session_id=name)

        answer = admin.post(f"/get-messages?session={name.replace(' ', '+')}")

        assert answer.json()[0] == {"type": "user_message", "content": "hi"}

    def test_an_unknown_session_is_404(self, admin: httpx2.Client) -> None:
        for session in (str(uuid.uuid4()), "agent_session_nowhere"):
            params = {"session": session}
            refused(admin.post("/", json={"message": "hi"}, params=params), 404, "SESSION_NOT_FOUND")
            refused(admin.post("/get-messages", params=params), 404, "SESSION_NOT_FOUND")
            refused(admin.post("/clear-messages", params=params), 404, "SESSION_NOT_FOUND")

    def test_another_organisations_session_is_404(
        self, admin: httpx2.Client, live: Live, remembering: dict[str, str]
    ) -> None:
        session = session_of(run(admin, "hi", params=remembering))
        _, key = live.new_organisation()
        with live.client(key) as other:
            refused(other.post("/get-messages", params={"session": session}), 404, "SESSION_NOT_FOUND")

    def test_a_nugen_conversation_cannot_be_entered(self, admin: httpx2.Client) -> None:
        name = unique("s")
        admin.post(
            "/api/v3/agents/run-agents/remembers/run", json={"message": "hi"}, headers={"x-session-id": name}
        )
        [row] = [s for s in admin.get("/api/v1/sessions?limit=5").json()["data"] if s["key"] == name]

        for session in (name, row["id"]):
            refused(admin.post("/get-messages", params={"session": session}), 404, "SESSION_NOT_FOUND")

    def test_get_messages_returns_the_whole_history_in_order(
        self, admin: httpx2.Client, live: Live, tmp_path: Path
    ) -> None:
        question = unique("history")
        live.model.when(
            question, calls(crm_find_customer={"name": "Ada"}), reply("Gold.", reasoning="I know her")
        )
        with mcp_process(tmp_path) as server:
            frames = run(admin, question, mcp_servers=[{"serverName": "crm", "serverUrl": server.url}])

        history = admin.post(
            "/get-messages",
            params={"session": session_of(frames)},
            headers={"content-type": "application/json"},
        ).json()

        assert [line["type"] for line in history] == [
            "user_message",
            "agent_tool_use",
            "agent_thinking",
            "agent_response",
        ]
        assert all(line.keys() == {"type", "content"} for line in history)
        assert history[0]["content"] == question
        used = json.loads(history[1]["content"])
        assert used["tool"] == "crm_find_customer"
        assert json.loads(used["input"]) == {"name": "Ada"}
        assert history[3]["content"] == "Gold."

    def test_get_messages_knows_the_published_types_alone(self, admin: httpx2.Client) -> None:
        session = session_of(run(admin, "hi", params={"agent": "asks"}))
        run(admin, "green", params={"session": session})

        history = admin.post("/get-messages", params={"session": session}).json()

        assert [(line["type"], line["content"]) for line in history] == [
            ("user_message", "hi"),
            ("agent_response", "Which colour?"),
            ("user_message", "green"),
            ("agent_response", "You like green."),
        ]

    def test_clear_messages_erases_them(self, admin: httpx2.Client, remembering: dict[str, str]) -> None:
        session = session_of(run(admin, "hi", params=remembering))

        cleared = admin.post("/clear-messages", params={"session": session})

        assert cleared.json() == {"success": True, "message": "Messages cleared"}
        assert admin.post("/get-messages", params={"session": session}).json() == []
        again = run(admin, "hi again", params=remembering | {"session": session})
        assert again.text() == "0 before: "

    def test_the_session_is_required(self, admin: httpx2.Client) -> None:
        for path in ("/get-messages", "/clear-messages"):
            refused(admin.post(path), 400, "missing_field")

    def test_two_messages_to_one_session_are_dealt_with_one_after_the_other(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        session = session_of(run(admin, "one", params=remembering))
        for message in ("two", "three"):
            admin.post(
                "/", json={"message": message, "background": True}, params=remembering | {"session": session}
            )

        last = run(admin, "four", params=remembering | {"session": session})

        assert last.text() == "3 before: one, two, three"


class TestSchedules:
    def test_the_ids_come_with_the_first_event_and_cancel_the_schedule(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        schedules = [
            {"schedule": 3600, "message": "in an hour"},
            {"schedule": "2099-01-01", "message": "that day"},
            {"schedule": "*/10 * * * 1", "message": "on Mondays"},
        ]

        made = run(admin, "plan", params=remembering, schedules=schedules).events[0]["schedules"]

        assert [one["kind"] for one in made] == ["delay", "date", "cron"]
        for one in made:
            assert admin.delete(f"/api/v1/schedules/{one['id']}").status_code in (200, 204)
            assert admin.get(f"/api/v1/schedules/{one['id']}").status_code == 404

    def test_in_the_background_the_ids_come_with_the_answer(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        schedules = [{"schedule": 3600, "message": "later"}]
        body = {"message": "plan", "background": True, "schedules": schedules}

        [made] = admin.post("/", json=body, params=remembering).json()["schedules"]

        assert admin.delete(f"/api/v1/schedules/{made['id']}").status_code in (200, 204)

    def test_a_schedule_runs_its_message_in_the_same_session(
        self, admin: httpx2.Client, remembering: dict[str, str]
    ) -> None:
        frames = run(admin, "now", params=remembering, schedules=[{"schedule": 1, "message": "later"}])

        def history() -> list[dict[str, str]]:
            found: list[dict[str, str]] = admin.post(
                "/get-messages", params={"session": session_of(frames)}
            ).json()
            return found if len(found) == 4 else []

        lines = wait_until(history, seconds=30)
        assert [line["content"] for line in lines] == ["now", "0 before: ", "later", "1 before: now"]
