"""The event stream of the agentbase contract (sections 6 and 7), fact by fact."""

from __future__ import annotations

import json
import re
import threading
import uuid
from pathlib import Path

import httpx2
import pytest

from runyard_common.values.ids import is_uuid
from tests.contract.callbacks import complete, receiver
from tests.contract.frames import Frames, run, streaming
from tests.contract.live import Live, unique
from tests.fakes.mcp_servers import mcp_process
from tests.fakes.model_server import calls, fail, reply
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


class TestTransport:
    def test_frames_are_one_line_of_data_and_a_blank_line(self, admin: httpx2.Client) -> None:
        frames = run(admin, "hello", params={"agent": "remembers"})

        assert re.fullmatch(r"(data: \{[^\n]*\}\n\n|: ?[^\n]*\n\n)+", frames.raw)

    def test_no_frame_has_an_id_a_name_or_a_done_mark(self, admin: httpx2.Client) -> None:
        raw = run(admin, "hello\nid: 1\nevent: x", params={"agent": "echo"}).raw

        assert not re.search(r"^(id|event|retry):", raw, re.MULTILINE)
        assert "[DONE]" not in raw

    def test_the_answer_is_an_event_stream_not_stored(self, admin: httpx2.Client) -> None:
        with streaming(admin, "hello", params={"agent": "echo"}) as frames:
            headers = frames.response.headers
            assert headers["content-type"].partition(";")[0] == "text/event-stream"
            assert "no-cache" in headers["cache-control"]
            assert headers["x-should-retry"] == "false"
            assert is_uuid(headers["x-task-id"])

    def test_the_stream_opens_before_the_agent_has_done_anything(
        self, admin: httpx2.Client, tmp_path: Path
    ) -> None:
        barrier = tmp_path / "barrier"
        with streaming(admin, str(barrier), params={"agent": "gated"}) as frames:
            assert frames.until("agent_started")["session"]
            barrier.touch()
            assert frames.until("agent_response")["content"] == "through"

    def test_silence_is_filled_with_comments(self, admin: httpx2.Client, tmp_path: Path) -> None:
        barrier = tmp_path / "barrier"
        with streaming(admin, str(barrier), params={"agent": "gated"}) as frames:
            frames.until("agent_started")

            def open_then() -> None:
                wait_until(lambda: frames.comments, seconds=50)
                barrier.touch()

            opener = threading.Thread(target=open_then)
            opener.start()
            frames.until("agent_completed")
            opener.join()

        assert frames.comments
        assert frames.text() == "through"


class TestEvents:
    def test_every_event_has_a_type_and_the_session(self, admin: httpx2.Client) -> None:
        frames = run(admin, "hello", params={"agent": "remembers"})

        sessions = {event["session"] for event in frames.events}
        assert len(sessions) == 1
        assert is_uuid(sessions.pop())

    def test_the_order_of_a_run_with_a_tool(self, admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
        question = unique("who is Ada?")
        live.model.when(
            question,
            calls(crm_find_customer={"name": "Ada"}, text="Let me look."),
            reply("She is on plan gold.", reasoning="gold it is"),
        )
        with mcp_process(tmp_path, token="s3cret") as server:
            frames = run(
                admin,
                question,
                mcp_servers=[
                    {
                        "serverName": "crm",
                        "serverUrl": server.url,
                        "auth": {"type": "bearer", "token": "s3cret"},
                    }
                ],
            )

        assert frames.types == [
            "agent_started",
            "agent_response",
            "agent_tool_use",
            "agent_tool_response",
            "agent_step",
            "agent_cost",
            "agent_thinking",
            "agent_response",
            "agent_step",
            "agent_cost",
            "agent_completed",
        ]
        assert frames.text() == "Let me look.She is on plan gold."
        assert frames.text("agent_thinking") == "gold it is"

    def test_tool_events_hold_json_in_a_string(
        self, admin: httpx2.Client, live: Live, tmp_path: Path
    ) -> None:
        question = unique("tools?")
        live.model.when(question, calls(crm_find_customer={"name": "Grüße"}), reply("done"))
        with mcp_process(tmp_path) as server:
            frames = run(admin, question, mcp_servers=[{"serverName": "crm", "serverUrl": server.url}])

        [use] = [e for e in frames.events if e["type"] == "agent_tool_use"]
        [response] = [e for e in frames.events if e["type"] == "agent_tool_response"]
        used, answered = json.loads(use["content"]), json.loads(response["content"])
        assert used.keys() == {"tool", "input"}
        assert used["tool"] == "crm_find_customer"
        assert json.loads(used["input"]) == {"name": "Grüße"}
        assert answered["tool"] == "crm_find_customer"
        assert "gold" in json.dumps(answered["content"])

    def test_a_step_has_its_name_and_its_number(self, admin: httpx2.Client, live: Live) -> None:
        question = unique("steps?")
        live.model.when(question, reply("ok"))

        [step] = [e for e in run(admin, question).events if e["type"] == "agent_step"]

        assert step["step"] == "1"
        assert step["stepNumber"] == 1

    def test_a_cost_has_a_decimal_string_and_what_is_left(self, live: Live) -> None:
        _, key = live.new_organisation(balance_micros=5_000_000)
        question = unique("cost?")
        live.model.when(question, reply("ok"))
        with live.client(key) as client:
            [cost] = [e for e in run(client, question).events if e["type"] == "agent_cost"]

        assert re.fullmatch(r"\d+\.\d+", cost["cost"])
        assert cost["balance"] == 5
        assert cost["deductionSuccess"] is True
        assert cost["lowBalance"] is False

    def test_a_low_balance_is_reported(self, live: Live) -> None:
        _, key = live.new_organisation(balance_micros=500_000)
        question = unique("cost?")
        live.model.when(question, reply("ok"))
        with live.client(key) as client:
            [cost] = [e for e in run(client, question).events if e["type"] == "agent_cost"]

        assert cost["balance"] == 0.5
        assert cost["lowBalance"] is True

    def test_a_run_that_fails_ends_with_an_error_whose_text_is_in_it_twice(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        question = unique("never answered")
        live.model.when(question, fail(400), forever=True)

        frames = run(admin, question)

        assert frames.types[-1] == "agent_error"
        assert "agent_completed" not in frames.types
        error = frames.events[-1]
        assert error["content"] == error["error"] != ""
        assert error["code"] == "model_request_rejected"

    def test_a_run_that_is_stopped_ends_with_an_error(self, admin: httpx2.Client, tmp_path: Path) -> None:
        with streaming(admin, str(tmp_path / "never"), params={"agent": "gated"}) as frames:
            frames.until("agent_started")
            admin.post(f"/tasks/{frames.response.headers['x-task-id']}/cancel")
            assert frames.until("agent_error")["code"] == "stopped"

    def test_structured_output_is_a_response_of_json_text(self, admin: httpx2.Client) -> None:
        frames = run(admin, "hi", params={"agent": "echo"})

        assert json.loads(frames.text()) == {"message": "hi", "args": {}}

    def test_final_output_adds_one_event_over_the_whole_thread(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        question = unique("summarise")
        schema = {
            "type": "object",
            "properties": {"outcome": {"enum": ["success", "failure"]}},
            "required": ["outcome"],
            "additionalProperties": False,
        }
        live.model.when(question, reply("All done."))
        live.model.when("task_summary", calls(task_summary={"outcome": "success"}))

        frames = run(admin, question, final_output={"name": "task_summary", "strict": True, "schema": schema})

        [final] = [e for e in frames.events if e["type"] == "agent_final_output"]
        assert final["name"] == "task_summary"
        assert final["content"] == final["final_output"] == {"outcome": "success"}
        assert frames.text() == "All done."
        assert frames.types.index("agent_final_output") < frames.types.index("agent_completed")

    def test_a_hand_off_is_reported(self, admin: httpx2.Client, live: Live) -> None:
        question = unique("sell me something")

        live.model.when(
            question, calls(("transfer_to_Sales_Agent", {"reason": "wants to buy"})), reply("Gladly.")
        )
        agents = [{"name": "Sales Agent", "description": "Handles sales questions."}]

        frames = run(admin, question, agents=agents)

        [moved] = [e for e in frames.events if e["type"] == "agent_transfer"]
        assert moved["agent"] == "Sales Agent"
        assert moved["context"] == "wants to buy"
        assert frames.text() == "Gladly."


class TestTokens:
    def test_without_tokens_no_start_events_come(self, admin: httpx2.Client, live: Live) -> None:
        question = unique("plain")
        live.model.when(question, reply("One two three.", reasoning="hm hm"))

        types = run(admin, question).types

        assert [t for t in types if t.endswith("_start")] == []
        assert types.count("agent_response") == 1

    def test_with_tokens_pieces_follow_a_start_and_join_to_the_message(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        question = unique("token by token")
        live.model.when(question, reply("One two three Grüße.", reasoning="hm hm", piece_delay=0.02))

        frames = run(admin, question, streaming_tokens=True)

        assert frames.text() == "One two three Grüße."
        assert frames.text("agent_thinking") == "hm hm"
        assert frames.types.count("agent_response") > 1
        assert frames.types.count("agent_response_start") == 1
        assert frames.types.count("agent_thinking_start") == 1
        order = list(dict.fromkeys(frames.types))
        assert order == [
            "agent_started",
            "agent_thinking_start",
            "agent_thinking",
            "agent_response_start",
            "agent_response",
            "agent_step",
            "agent_cost",
            "agent_completed",
        ]

    def test_with_tokens_a_tool_use_has_a_start_too(
        self, admin: httpx2.Client, live: Live, tmp_path: Path
    ) -> None:
        question = unique("tool tokens")
        live.model.when(question, calls(crm_find_customer={"name": "Ada"}), reply("Gold."))
        with mcp_process(tmp_path) as server:
            frames = run(
                admin,
                question,
                streaming_tokens=True,
                mcp_servers=[{"serverName": "crm", "serverUrl": server.url}],
            )

        place = frames.types.index("agent_tool_use")
        assert frames.types[place - 1] == "agent_tool_use_start"
        assert frames.text() == "Gold."

    def test_a_python_agents_pieces_join_to_its_output(self, admin: httpx2.Client) -> None:
        frames = run(admin, "speak", params={"agent": "speaks"}, streaming_tokens=True)

        assert frames.text() == "Grüße aus der Ferne"
        assert frames.types.count("agent_response_start") == 1


class TestQuestions:
    @pytest.fixture
    def asked(self, admin: httpx2.Client) -> Frames:
        """A run whose agent has asked for a colour."""
        return run(admin, "hello", params={"agent": "asks"})

    def test_a_question_is_sent_and_ends_the_stream(self, asked: Frames) -> None:
        assert asked.types == [
            "agent_started",
            "agent_response",
            "agent_waiting_for_input",
            "agent_completed",
        ]
        assert asked.text() == "Which colour?"
        assert asked.events[2]["questions"][0]["text"] == "Which colour?"
        assert "answer://" not in asked.raw

    def test_the_next_message_of_the_session_is_the_answer(
        self, admin: httpx2.Client, live: Live, asked: Frames
    ) -> None:
        session = asked.events[0]["session"]

        answered = run(admin, "green", params={"session": session})

        assert answered.types == ["agent_started", "agent_response", "agent_completed"]
        assert answered.text() == "You like green."
        assert answered.events[0]["task_id"] == asked.events[0]["task_id"]


class TestBackground:
    def test_it_answers_with_json_at_once(self, admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
        answer = admin.post(
            "/", json={"message": str(tmp_path / "barrier"), "background": True}, params={"agent": "gated"}
        )

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-should-retry"] == "false"
        body = answer.json()
        assert body["status"] == "queued"
        assert body["session"] == live.task(body["taskId"])["session_id"]
        (tmp_path / "barrier").touch()
        assert live.until(body["taskId"])["output"] == "through"

    def test_events_go_to_the_callback_one_by_one_in_order(
        self, admin: httpx2.Client, live: Live, tmp_path: Path
    ) -> None:
        question = unique("call me back")
        live.model.when(question, reply("Done."))
        with receiver(tmp_path) as url:
            callback = {"url": url, "headers": {"Authorization": "Bearer your-token"}}
            body = {"message": question, "background": True, "callback": callback}
            accepted = admin.post("/", json=body).json()
            posts = wait_until(lambda: complete(tmp_path / "posts"), seconds=30)

        posted = [post.json for post in posts]
        assert [b["type"] for b in posted] == [
            "agent_started",
            "agent_response",
            "agent_step",
            "agent_cost",
            "agent_completed",
            "run.completed",
        ]
        assert {post.headers["authorization"] for post in posts} == {"Bearer your-token"}
        assert {b["session"] for b in posted} == {accepted["session"]}
        assert posted[1]["content"] == "Done."
        assert posted[-1]["taskId"] == accepted["taskId"]
        assert posted[-1]["status"] == "completed"
        assert posted[-1]["timestamp"]

    def test_the_run_can_be_asked_after(self, admin: httpx2.Client, live: Live) -> None:
        accepted = admin.post(
            "/agentbase/", json={"message": "x", "background": True}, params={"agent": "remembers"}
        ).json()
        live.until(accepted["taskId"])

        status = admin.get(f"/agentbase/tasks/{accepted['taskId']}").json()
        result = admin.get(f"/agentbase/tasks/{accepted['taskId']}/result").json()

        assert status["taskId"] == accepted["taskId"]
        assert (status["status"], status["state"], status["progress"]) == ("completed", "completed", 1)
        assert status["error"] is None
        assert result["result"] == "0 before: "
        assert admin.get(f"/agentbase/tasks/{uuid.uuid4()}").status_code == 404


def test_a_client_that_leaves_does_not_stop_the_run(admin: httpx2.Client, live: Live, tmp_path: Path) -> None:
    with streaming(admin, str(tmp_path / "barrier"), params={"agent": "gated"}) as frames:
        frames.until("agent_started")
        task_id = frames.response.headers["x-task-id"]

    (tmp_path / "barrier").touch()
    assert live.until(task_id)["status"] == "completed"
