"""A task's log in agentbase's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runyard_common import surfaces
from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.webhooks.rules.callback_events import body_of, completion, of_change, of_log
from runyard_common.webhooks.rules.payloads import MOST_BYTES, WebhookEvent
from tests.unit.common.webhooks.test_payloads import EVENT, QUESTION, task


@pytest.mark.parametrize(
    ("type_", "data", "expected"),
    [
        ("thinking", {"turn": 1, "text": "hm"}, [{"type": "agent_thinking", "content": "hm"}]),
        ("message", {"turn": 1, "text": "hi"}, [{"type": "agent_response", "content": "hi"}]),
        ("step", {"name": "total", "key": "total#1"}, [{"type": "agent_step", "step": "total"}]),
        ("handoff", {"to": "b", "reason": "r"}, [{"type": "agent_transfer", "agent": "b", "context": "r"}]),
        ("custom", {"name": "n", "data": 1}, [{"type": "agent_event", "name": "n", "data": 1}]),
        (
            "model_turn",
            {"turn": 2, "cost_micros": 7500},
            [
                {"type": "agent_step", "step": "2", "stepNumber": 2},
                {
                    "type": "agent_cost",
                    "cost": "0.007500",
                    "balance": 0,
                    "deductionSuccess": True,
                    "lowBalance": False,
                },
            ],
        ),
        (
            "model_turn",
            {"turn": 3, "cost_micros": 25_000, "balance_micros": 975_000},
            [
                {"type": "agent_step", "step": "3", "stepNumber": 3},
                {
                    "type": "agent_cost",
                    "cost": "0.025000",
                    "balance": 0.975,
                    "deductionSuccess": True,
                    "lowBalance": True,
                },
            ],
        ),
        ("log", {"message": "x"}, []),
        ("user_message", {"content": "x"}, []),
    ],
)
def test_what_agents_report(type_: str, data: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert of_log(type_, data) == expected


def test_tool_calls_are_json_in_a_string_and_their_input_another() -> None:
    (use,) = of_log("tool_call", {"tool": "search", "arguments": {"q": "é"}})
    content = json.loads(use["content"])
    assert (content["tool"], json.loads(content["input"])) == ("search", {"q": "é"})
    (answer,) = of_log("tool_result", {"tool": "search", "result": [1], "status": "ok"})
    assert json.loads(answer["content"]) == {"tool": "search", "content": [1]}


def change(event: Event, status: Status, spoken: bool = False, **values: Any) -> list[dict[str, Any]]:
    asked = [{"id": QUESTION, "kind": "question", "text": "Which?"}]
    return of_change(
        event, WebhookEvent(EVENT, "x", "x", 1, 0.0, {"asked": asked}), task(status=status, **values), spoken
    )


def test_the_run_begins_once_and_ends_once() -> None:
    assert change(Event.CLAIM, Status.RUNNING) == [{"type": "agent_started"}]
    assert change(Event.CLAIM, Status.RUNNING, attempt=2) == []
    assert [e["type"] for e in change(Event.FINISH, Status.COMPLETED)] == [
        "agent_response",
        "agent_completed",
    ]
    assert [e["type"] for e in change(Event.FINISH, Status.COMPLETED, spoken=True)] == ["agent_completed"]
    assert change(Event.RETRY, Status.QUEUED) == []
    (failed,) = change(Event.EXPIRE, Status.FAILED, error={"code": "c", "message": "late"})
    assert (failed["type"], failed["content"]) == ("agent_error", "late")


def test_questions_come_with_their_link() -> None:
    (asked,) = change(Event.ASK, Status.WAITING_FOR_INPUT)
    assert asked["questions"][0]["answer_url"] == f"answer://{EVENT}/{QUESTION}"


def test_the_completion_shows_how_it_ended_in_the_fronts_words() -> None:
    stopped = task(status=Status.STOPPED, error={"code": "stopped", "message": "enough"})
    assert completion(stopped, EVENT, 0.0, {})["status"] == "stopped"
    foreign = task(status=Status.STOPPED, front="agentbase")
    assert completion(foreign, EVENT, 0.0, surfaces.of(foreign.front).statuses)["status"] == "cancelled"
    done = completion(task(), EVENT, 1_700_000_000.0, {})
    assert {"taskId", "status", "timestamp"} <= done.keys()
    assert (done["output"], done["error"]) == ({"m": 2}, None)


def test_long_content_is_cut() -> None:
    text = body_of({"type": "agent_response", "content": "é" * MOST_BYTES}, "t1", None)
    assert len(text.encode()) <= MOST_BYTES
    assert json.loads(text)["truncated"] is True
