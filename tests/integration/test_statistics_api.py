"""`GET /statistics/runs` and `/statistics/queue`: who may ask, for which time, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from runyard_common.statistics import service
from tests.api_server import Api


@pytest.fixture(scope="module")
def run_id(api: Api) -> Iterator[str]:
    """A stopped run, rolled up."""
    with api.client() as client:
        task = client.post("/api/v1/agents/@test/chat/run", json={"query": "hi"}).raise_for_status().json()
        client.post(f"/tasks/{task['task_id']}/cancel").raise_for_status()
        waiting = client.post("/api/v1/agents/@test/chat/run", json={"query": "hi"})
        waiting.raise_for_status()
        service.roll_up(api.state.store)
        yield task["task_id"]


def _ok(client: httpx2.Client, path: str, **params: Any) -> Any:
    answer = client.get(f"/api/v1/statistics/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_series_adds_up_to_the_total_and_groups_are_named(client: httpx2.Client, run_id: str) -> None:
    found = _ok(client, "runs", by="agent")
    assert (found["total"]["submitted"], found["total"]["stopped"]) == (2, 1)
    assert sum(point["submitted"] for point in found["series"]) == 2
    assert found["step"] == 600
    assert len(found["series"]) in (144, 145)
    assert found["total"]["wait"] == {"count": 0, "p50": None, "p95": None}, "it never started"
    assert [(group["name"], group["total"]["submitted"]) for group in found["groups"]] == [("@test/chat", 2)]
    assert sum(point["stopped"] for point in found["groups"][0]["series"]) == 1


def test_the_operator_sees_the_installation_by_organisation(client: httpx2.Client, run_id: str) -> None:
    found = _ok(client, "runs", scope="installation", by="organisation")
    assert found["groups"][0]["total"]["submitted"] == found["total"]["submitted"] == 2
    queue = _ok(client, "queue", scope="installation")
    point = next(point for point in reversed(queue["series"]) if point["samples"])
    assert point["statuses"]["pending"] == {"mean": 1.0, "peak": 1}
    assert [queue["organisations"][id_] for id_ in point["organisations"]] == ["default"]
    assert point["workers"] == {}


def test_a_viewer_sees_the_organisation_alone(api: Api, client: httpx2.Client, run_id: str) -> None:
    key = client.post("/api/v1/keys", json={"name": "v", "role": "viewer"}).raise_for_status().json()["key"]
    theirs = {"authorization": f"Bearer {key}"}
    assert client.get("/api/v1/statistics/runs", headers=theirs).json()["total"]["submitted"] == 2
    shown = client.get("/api/v1/statistics/queue", headers=theirs).json()["series"][-1]
    assert shown["workers"] is None
    assert shown["organisations"] is None
    for refused in ("runs?scope=installation", "queue?scope=installation", "runs?by=organisation"):
        answer = client.get(f"/api/v1/statistics/{refused}", headers=theirs)
        assert (answer.status_code, answer.json()["code"]) == (403, "operator_only")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("step=60&since=2020-01-01T00:00:00Z&until=2020-01-01T01:00:00Z", "step"),
        ("step=86400&since=2000-01-01T00:00:00Z", "step"),
        ("step=90", "step"),
        ("scope=installation&by=key", "by"),
    ],
)
def test_a_time_that_cannot_be_shown_is_refused_by_its_field(
    client: httpx2.Client, query: str, field: str
) -> None:
    answer = client.get(f"/api/v1/statistics/runs?{query}")
    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text


def test_a_time_long_ago_is_answered_in_the_steps_that_are_kept(client: httpx2.Client) -> None:
    found = _ok(client, "runs", since="2020-01-01T00:00:00Z", until="2020-01-01T06:00:00Z")
    assert found["step"] % 86_400 == 0
