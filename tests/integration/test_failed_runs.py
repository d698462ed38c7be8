"""Lists of what needs attention: failed runs by their code and without their repeats, sessions by their keys."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import httpx2
from sqlalchemy import text

from tests.api_server import Api


def test_a_run_that_was_retried_names_the_new_one_and_is_left_out_of_the_next_bulk_retry(
    client: httpx2.Client,
) -> None:
    for i in range(2):
        client.post("/api/v1/agents/@test/chat/run", json={"query": f"quagga {i}"}).raise_for_status()
    client.post("/api/v1/tasks/cancel", json={"filter": {"q": "quagga"}}).raise_for_status()
    body = {"filter": {"q": "quagga"}}
    first = client.post("/tasks/retry", json=body).json()
    assert (first["count"], first["left_out"], first["has_more"]) == (2, 0, False)
    again = client.post("/tasks/retry", json=body).json()
    assert (again["count"], again["left_out"]) == (0, 2)
    old = client.get("/tasks", params={"q": "quagga", "retried": "true"}).json()["data"]
    assert {one["retried_as"] for one in old} == set(first["task_ids"])
    assert [one["status"] for one in old] == ["stopped", "stopped"]
    shown = client.get(f"/tasks/{old[0]['task_id']}")
    assert shown.json()["retried_as"] == old[0]["retried_as"]
    once_more = client.post(
        "/tasks/retry", json={"filter": {"ids": old[0]["task_id"], "retried": True}}
    ).json()
    assert (once_more["count"], once_more["left_out"]) == (1, 0)
    newer = client.get(f"/tasks/{old[0]['task_id']}", headers={"if-none-match": shown.headers["etag"]})
    assert (newer.status_code, newer.json()["retried_as"]) == (200, once_more["task_ids"][0])
    client.post("/tasks/cancel", json={"filter": {"q": "quagga"}}).raise_for_status()


def test_sessions_are_found_by_a_part_of_their_keys_in_any_case(client: httpx2.Client) -> None:
    keys = ["Trip to KÖLN", "köln again", "Berlin 100%", "berlin_x"]
    for key in keys:
        body = {"query": "hello", "session_id": key}
        client.post("/api/v1/agents/@test/chat/run", json=body).raise_for_status()

    def found(**given: Any) -> list[str]:
        page = client.get("/api/v1/sessions", params=given).raise_for_status().json()
        names = [one["key"] for one in page["data"]]
        return names + (found(**given | {"cursor": page["next_cursor"]}) if page["has_more"] else [])

    for limit in (1, 100):
        assert found(q="köln", limit=limit) == keys[1::-1]
        assert found(q="BERLIN", limit=limit) == keys[:1:-1]
    assert (found(q="100%"), found(q="n_x"), found(q="Rome")) == (keys[2:3], keys[3:], [])


def test_tasks_are_found_by_the_code_of_their_error(client: httpx2.Client) -> None:
    made = client.post("/api/v1/agents/@test/chat/run", json={"query": "okapi"}).json()["task_id"]
    client.post(f"/tasks/{made}/cancel").raise_for_status()
    code = client.get(f"/tasks/{made}").json()["error"]["code"]
    found = client.get("/tasks", params={"error_code": code, "q": "okapi"}).json()["data"]
    assert [(one["task_id"], one["error_code"]) for one in found] == [(made, code)]
    found = client.get("/tasks", params={"error_code": code, "status": "completed,failed,stopped"}).json()[
        "data"
    ]
    assert made in [one["task_id"] for one in found]
    assert client.get("/tasks", params={"error_code": code, "status": "failed"}).json()["data"] == []
    assert client.get("/tasks", params={"error_code": "no_such_code"}).json()["data"] == []


def test_the_migration_finds_the_code_in_an_error_that_was_stored_before(
    client: httpx2.Client, api: Api
) -> None:
    made = client.post("/api/v1/agents/@test/chat/run", json={"query": "gnu"}).json()["task_id"]
    client.post(f"/tasks/{made}/cancel").raise_for_status()
    migration = import_module("runyard_common.database.migrations.versions.0032_failed_runs")
    with api.state.store.read() as conn:
        code = migration._CODES[conn.dialect.name]
        query = text(f"SELECT error_code, {code} AS found FROM tasks WHERE id = :id")
        row = conn.execute(query, {"id": made}).one()
    assert row.found == row.error_code is not None
