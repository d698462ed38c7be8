"""The short form of `make bench ONLY=deliveries`, and a whole installation that calls back while it is killed."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.bench_deliveries import storm
from tests.contract.test_signing import in_node, node
from tests.delivering import ReceiverProcess
from tests.stack import Stack

__all__ = ["node"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.chaos),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLite in the test's folder, or a fresh PostgreSQL database."""
    if request.param == "sqlite":
        return ""
    fresh: Callable[[], str] = request.getfixturevalue("migrated_database")
    return fresh().replace("postgresql://", "postgresql+psycopg://", 1)


def test_every_event_arrives_in_order_while_receivers_fail_and_deliverers_are_killed(
    tmp_path: Path, database_url: str
) -> None:
    count = storm(tmp_path, 300, 3.0, 1.0, database_url)
    assert count.clean, count
    assert count.promised >= 240, "one receiver is types nothing while it is switched off"
    assert count.repeated > 5, "the receivers that fail were not asked"


def test_a_killed_installation_calls_back_and_strangers_verify_it(tmp_path: Path, node: str) -> None:
    receiver = ReceiverProcess(tmp_path / "received")
    try:
        with Stack(tmp_path) as stack:
            status, hook = stack.request("POST", "/api/v1/webhooks", {"url": receiver.url("/ok")})
            assert status == 201, hook
            _, rotated = stack.request("POST", "/api/v1/webhooks/callbacks/rotate")
            callback = {"url": receiver.url("/flaky/7"), "headers": {"X-Key": "of-the-caller"}}
            ids = [stack.submit("@demo/echo", {"n": n}, callback=callback) for n in range(6)]
            stack.kill("worker-1")
            ids += [stack.submit("@demo/echo", {"n": n}, callback=callback) for n in range(6)]
            stack.start("worker-1")
            for task_id in ids:
                assert stack.until(task_id, seconds=90)["status"] == "completed"
            _until_settled(stack, ids)
        _check_order(receiver, ids)
        secrets = {"/ok": hook["secret"], "/flaky/7": rotated["secret"]}
        cases = [{"secret": secrets[r.path], "headers": r.headers, "body": r.body} for r in receiver.received]
        answers = in_node(node, cases)
        assert len(answers) >= 12 * 6
        assert [answer["verified"] for answer in answers] == [json.loads(case["body"]) for case in cases]
    finally:
        receiver.stop()


def _until_settled(stack: Stack, ids: list[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    for task_id in ids:
        while True:
            _, page = stack.request("GET", f"/tasks/{task_id}/deliveries?limit=100")
            states = {d["state"] for d in page["data"]}
            if states == {"success"}:
                break
            assert "dead" not in states, page
            assert time.monotonic() < deadline, page
            time.sleep(0.2)


def _check_order(receiver: ReceiverProcess, ids: list[str]) -> None:
    """Each task's first-time arrivals, at its callback and at the webhook, are its story in order."""
    types: dict[tuple[str, str], list[str]] = defaultdict(list)
    seen: set[str] = set()
    for request in receiver.received:
        if request.accepted and request.event_id not in seen:
            seen.add(request.event_id)
            body = request.json
            types[request.path, body.get("task_id") or body["data"]["task_id"]].append(body["type"])
            assert request.path == "/ok" or request.headers["x-key"] == "of-the-caller"
    for task_id in ids:
        story = types["/flaky/7", task_id]
        assert story[0] == "agent_started"
        assert story[-3:] == ["agent_response", "agent_completed", "run.completed"]
        states = types["/ok", task_id]
        assert (states[0], states[-1]) == ("run.pending", "run.completed")
