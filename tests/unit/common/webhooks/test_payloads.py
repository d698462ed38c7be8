"""Bodies: their shape, what summaries leave out, how too large ones shrink, links as placeholders."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from runyard_api.surfaces.appstrate import surface as contract
from runyard_api.surfaces.appstrate.surface import as_result as appstrate_result
from runyard_api.surfaces.appstrate.surface import render as appstrate
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.webhooks.rules.payloads import (
    MOST_BYTES,
    WebhookEvent,
    native,
    ping,
    placeholder,
    placeholders,
)

EVENT = "evt_" + "0" * 32
QUESTION = "01a20038-af0a-7000-b79e-effc11206ef3"


def task(**values: Any) -> Task:
    base: dict[str, Any] = {field.name: None for field in fields(Task)}
    base |= {"id": "t1", "org_id": "o1", "agent_id": "a1", "version_id": "v1", "agent_name": "@demo/echo"}
    base |= {
        "version": "1.0.0",
        "status": Status.COMPLETED,
        "front": "native",
        "attempt": 1,
        "cost_micros": 2_500_000,
    }
    base |= {"created_at": 1_700_000_000.0, "updated_at": 1_700_000_002.0, "finished_at": 1_700_000_002.5}
    given = {"input": {"args": {"n": 1}}, "output": {"m": 2}} | values
    stored = {f"stored_{name}": given.pop(name) for name in ("input", "output")}
    return Task(**base | stored | given)


def event(type_: str = "run.completed", **data: Any) -> WebhookEvent:
    return WebhookEvent(EVENT, type_, "finish", 7, 1_700_000_002.5, data)


def test_the_native_body_is_the_event_and_the_task_as_the_api_shows_it() -> None:
    body = json.loads(native(task(), event(worker="w1", reason="x"), "full"))
    assert (body["id"], body["type"], body["timestamp"]) == (
        EVENT,
        "run.completed",
        "2023-11-14T22:13:22.500000Z",
    )
    assert body["event"] == {"name": "finish", "seq": 7, "data": {"reason": "x"}}
    data = body["data"]
    assert (data["task_id"], data["agent"], data["cost"]) == ("t1", "@demo/echo", 2.5)
    assert (data["input"], data["output"]) == ({"args": {"n": 1}}, {"m": 2})


def test_a_summary_leaves_out_what_went_in_and_came_out() -> None:
    body = json.loads(native(task(), event(answers={"q": "secret"}), "summary"))
    assert not {"input", "output"} & body["data"].keys()
    assert body["event"] == {"name": "finish", "seq": 7}
    run = json.loads(appstrate(task(), event(), "summary"))["data"]["object"]
    assert run == {
        "object": "run",
        "id": "exec_t1",
        "packageId": "@demo/echo",
        "status": "completed",
        "duration": 2500,
    }


@pytest.mark.parametrize("render", [native, appstrate])
def test_what_is_too_large_goes_without_its_result_and_is_marked(render: Any) -> None:
    large = task(output={"text": "x" * MOST_BYTES})
    text = render(large, event(), "full")
    assert len(text.encode()) <= MOST_BYTES
    data = json.loads(text)["data"]
    data = data.get("object", data)
    assert data.get("resultTruncated") or data.get("output_truncated")
    assert "input" in data
    huge = replace(large, stored_input={"args": {"text": "é" * MOST_BYTES}})
    assert len(render(huge, event(), "full").encode()) <= MOST_BYTES


def test_appstrate_calls_a_run_by_the_id_it_has_there_and_reports_errors_in_words() -> None:
    failed = task(status=Status.FAILED, schedule_id="s1", error={"code": "x", "message": "It broke."})
    body = json.loads(appstrate(failed, event("run.failed"), "full"))
    assert (body["object"], body["apiVersion"], body["created"]) == ("event", "2026-03-21", 1_700_000_002)
    run = body["data"]["object"]
    assert (run["id"], run["status"], run["error"]) == ("run_t1", "failed", "It broke.")
    assert "result" not in run


def test_outputs_as_appstrate_results() -> None:
    assert appstrate_result({"a": 1}) == {"output": {"a": 1}}
    assert appstrate_result("text") == {"report": "text"}
    assert appstrate_result(None) == {}
    assert appstrate_result([1]) == {"output": {"result": [1]}}


def test_questions_carry_placeholders_that_only_their_own_event_fills() -> None:
    asked = [{"id": QUESTION, "kind": "question", "text": "Which? answer://evt_" + "1" * 32 + "/" + QUESTION}]
    text = native(task(status=Status.WAITING_FOR_INPUT), event("run.waiting_for_input", asked=asked), "full")
    data = json.loads(text)["data"]
    assert data["question"] == data["questions"][0]
    assert data["question"]["answer_url"] == placeholder(EVENT, QUESTION)
    assert placeholders(text, EVENT) == [QUESTION]
    assert placeholders(text, "evt_" + "2" * 32) == []


def test_a_review_of_an_unknown_outcome_is_a_review() -> None:
    asked = [{"id": QUESTION, "kind": "unknown_outcome", "action": "pay"}]
    text = native(task(status=Status.AWAITING_REVIEW), event("run.awaiting_review", asked=asked), "full")
    assert json.loads(text)["data"]["review"]["kind"] == "review"


def test_a_test_event_in_each_style() -> None:
    assert ping(EVENT, "test.ping", "wh_1", 1.0)["data"]["endpoint_id"] == "wh_1"
    made = contract.ping(EVENT, "test.ping", "wh_1", 1.0)
    assert (made["object"], made["type"], made["created"]) == ("event", "test.ping", 1)
