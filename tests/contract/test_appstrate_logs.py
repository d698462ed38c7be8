"""The appstrate contract, section 9: what a run's log has on its results, warnings and ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from tests.contract.appstrate import caller, ended, fresh, made, run_id
from tests.contract.live import Live
from tests.fakes.model_server import calls, reply

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def client(live: Live) -> Iterator[httpx2.Client]:
    """A client with a key of its own."""
    with caller(live) as client:
        yield client


def logs(client: httpx2.Client, id_: str) -> list[dict[str, Any]]:
    """The log of a run."""
    found: list[dict[str, Any]] = client.get(f"/api/runs/{id_}/logs").json()
    return found


def package(client: httpx2.Client, content: str, **manifest: Any) -> str:
    """A new agent with this prompt; its name."""
    name = fresh("@shop/agent")
    given = {"name": name, "version": "1.0.0", "model": "openai:scripted"} | manifest
    made(client.post("/api/packages/agents", json={"manifest": given, "content": content}))
    return name


def test_a_text_is_a_report_with_its_content(client: httpx2.Client) -> None:
    id_ = run_id(client, "@default/gives", {"value": "All is well."})
    run = ended(client, id_)
    data = {(log["type"], log["event"]): log for log in logs(client, id_)}

    assert run["result"] == {"report": "All is well."}
    assert data["result", "report"]["data"] == {"content": "All is well."}
    assert data["result", "result"]["data"] == run["result"]
    assert ("result", "output") not in data


def test_an_agent_may_succeed_with_neither(client: httpx2.Client) -> None:
    id_ = run_id(client, "@default/gives", {"value": None})
    assert ended(client, id_)["result"] == {}
    results = [log["event"] for log in logs(client, id_) if log["type"] == "result"]
    assert results == ["result"]


def test_progress_is_progress_and_levels_are_the_contracts(client: httpx2.Client) -> None:
    id_ = run_id(client, "@default/narrator")
    ended(client, id_)
    found = logs(client, id_)
    assert {log["level"] for log in found} <= {"debug", "info", "warn", "error"}
    assert {log["event"] for log in found if log["type"] == "progress"} == {"progress"}
    assert "half way" in [log["message"] for log in found if log["level"] == "info"]
    assert {log["type"] for log in found} == {"progress", "result", "system"}


def test_an_output_that_breaks_its_schema_is_a_warning_and_the_run_succeeds(
    live: Live, client: httpx2.Client
) -> None:
    question = fresh("add up")
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    live.model.when(lambda request: question in str(request), calls(final_result={"sum": 1}), forever=True)
    id_ = run_id(client, package(client, question, output={"schema": schema}))
    run = ended(client, id_)
    warnings = [log for log in logs(client, id_) if log["event"] == "output_validation"]

    assert (run["status"], run["result"], run["error"]) == ("success", {"output": {"sum": 1}}, None)
    assert {(log["type"], log["level"]) for log in warnings} == {("system", "warn")}
    assert warnings[-1]["data"]["violations"][0]["field"] == "output.total"


def test_tokens_and_the_model_are_shown(live: Live, client: httpx2.Client) -> None:
    question = fresh("count")
    usage = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    live.model.when(lambda request: question in str(request), reply("Three.", usage=usage))
    run = ended(client, run_id(client, package(client, question)))

    assert run["result"] == {"report": "Three."}
    assert run["tokensUsed"] == 23
    assert run["tokenUsage"] == {"input_tokens": 20, "output_tokens": 3, "cache_read_input_tokens": 0}
    assert (run["modelLabel"], run["modelSource"]) == ("openai:scripted", "system")
    assert isinstance(run["cost"], float)


def test_a_run_beyond_its_manifests_timeout_has_timed_out(client: httpx2.Client, live: Live) -> None:
    question = fresh("dawdle")
    barrier = threading.Event()
    live.model.when(
        lambda request: question in str(request), replace(reply("late"), hold=barrier), forever=True
    )
    run = ended(client, run_id(client, package(client, question, timeout=1)))
    barrier.set()
    last = logs(client, run["id"])[-1]

    assert run["status"] == "timeout"
    assert run["error"]
    assert 900 <= run["duration"] < 60_000
    assert (last["event"], last["level"], last["data"]) == ("run_completed", "warn", {"status": "timeout"})
