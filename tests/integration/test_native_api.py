"""The native API over HTTP, on a real server and a real database: what is accepted, refused, returned and stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.identity.queries import identity as identity_store
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.runs.service.runs import unsealed
from runyard_common.schedules.rules.policies import Lifetime
from runyard_common.values.errors import ScheduleError
from tests.api_server import Api
from tests.malformed import MALFORMED
from tests.waiting import wait_until

RUN = "/api/v1/agents/@test/echo/run"
MANIFEST = {
    "name": "@test/echo",
    "version": "1.2.0",
    "instructions": "Echo.",
    "input": {
        "schema": {
            "type": "object",
            "properties": {"n": {"type": "integer"}, "to": {"type": "string", "format": "email"}},
            "required": ["n"],
            "additionalProperties": False,
        }
    },
}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server on each database, without workers or a broker: what it accepts stays pending."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    home = tmp_path_factory.mktemp("api") / "home"
    with Api(home, url, max_body_bytes=200_000, max_upload_bytes=400_000) as server:
        with server.client() as client:
            for manifest in (MANIFEST, {"name": "@test/chat", "instructions": "Chat."}):
                made = client.post("/api/v1/agents/manifests", json=manifest)
                assert made.status_code == 201, made.text
        yield server


@pytest.fixture
def client(api: Api) -> Iterator[httpx2.Client]:
    """A client with the admin key."""
    with api.client() as client:
        yield client


def check_problem(
    answer: httpx2.Response, status: int, code: str, field: str | None = None
) -> dict[str, Any]:
    """The answer is a problem document of this kind, complete on both sides of its contract."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == answer.headers["request-id"]
    assert problem.get("field") == field, problem
    return problem


def test_a_run_is_accepted_with_what_the_contract_promises(client: httpx2.Client) -> None:
    answer = client.post(
        RUN, json={"query": "Say hello.\nAnd more.", "args": {"n": 1}, "metadata": {"mine": [1]}}
    )
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/api/v1/tasks/{body['task_id']}"
    assert {"task_id", "agent_id", "status", "message", "created_at"} <= body.keys()
    assert body["status"] == "pending"
    task = client.get(answer.headers["location"]).json()
    assert task["title"] == "Say hello."
    assert task["input"] == {"message": "Say hello.\nAnd more.", "args": {"n": 1}}
    assert task["metadata"] == {"mine": [1]}
    assert (task["agent"], task["version"], task["front"]) == ("@test/echo", "1.2.0", "native")
    assert task["poll_after_ms"] > 0
    assert task["started_at"] is None


def test_every_prefix_answers_alike(client: httpx2.Client) -> None:
    task_id = client.post("/v1/agents/@test/echo/run", json={"args": {"n": 2}}).json()["task_id"]
    views = [client.get(f"{prefix}/tasks/{task_id}").json() for prefix in ("/api/v1", "/v1", "")]
    assert views[0] == views[1] == views[2]


def test_an_agent_answers_to_its_ids_and_names(client: httpx2.Client) -> None:
    agent = client.get("/api/v1/agents/@test/echo").json()
    for name in (agent["id"], agent["agent_group_id"], "@test/echo", "%40test%2Fecho", "echo", "ECHO"):
        answer = client.post(f"/api/v1/agents/{name}/run", json={"args": {"n": 3}})
        assert answer.status_code == 202, (name, answer.text)
        assert answer.json()["agent_id"] == agent["id"]


@pytest.mark.parametrize(
    ("media_type", "body", "status", "code", "field"),
    [m[1:] for m in MALFORMED],
    ids=[m[0] for m in MALFORMED],
)
def test_malformed_input_gets_its_4xx_and_nothing_is_stored(
    api: Api,
    client: httpx2.Client,
    media_type: str | None,
    body: bytes,
    status: int,
    code: str,
    field: str | None,
) -> None:
    before = api.count_tasks()
    headers = {"content-type": media_type} if media_type else {}
    check_problem(client.post(RUN, content=body, headers=headers), status, code, field)
    assert api.count_tasks() == before


def test_ten_megabytes_of_nulls_are_refused(tmp_path: Path) -> None:
    with Api(tmp_path / "home") as api, api.client() as client:
        client.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
        for body in (
            b'{"args": [' + b"null," * 2_000_000 + b"null]}",
            b"\0" * 10_000_000,
            b"null," * 2_000_000,
        ):
            answer = client.post(
                "/api/v1/agents/chat/run", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 400, answer.text
            assert answer.json()["code"] in ("too_many_values", "bad_json")
        assert api.count_tasks() == 0


def test_a_typo_is_answered_with_what_was_meant(client: httpx2.Client) -> None:
    problem = check_problem(client.post(RUN, json={"sesion_id": "a"}), 400, "unknown_field", "sesion_id")
    assert "Did you mean 'session_id'?" in problem["detail"]


def test_an_oversized_body_is_refused_before_it_is_sent_whole(api: Api, client: httpx2.Client) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"a" * 100_000

    before = api.count_tasks()
    try:
        answer = client.post(RUN, content=pieces(), headers={"content-type": "application/json"})
        check_problem(answer, 413, "payload_too_large")
    except httpx2.WriteError:
        pass  # the server hung up while we were still sending, as it may
    assert sent < 1000
    assert api.count_tasks() == before


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/agents/@test/missing/run", 404, "agent_not_found"),
        ("/api/v1/agents/00000000-0000-0000-0000-000000000000/run", 404, "agent_not_found"),
        ("/api/v1/agents/%00/run", 404, "not_found"),
        ("/api/v1/agents/..%2f..%2fetc/run", 400, "invalid_id"),
        ("/api/v1/agents//run", 404, "route_not_found"),
        ("/api/v1/agents/@test/echo/run?wiat=1", 400, "unknown_field"),
        ("/api/v1/agents/@test/echo/run?dry_run=1&dry_run=0", 400, "duplicate_parameter"),
        ("/api/v1/agents/@test/echo/run?dry_run=perhaps", 400, "invalid_field"),
    ],
)
def test_a_wrong_address_is_a_clear_4xx(client: httpx2.Client, path: str, status: int, code: str) -> None:
    answer = client.post(path, json={"args": {"n": 1}})
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code


def test_a_version_is_found_by_number_tag_and_range(client: httpx2.Client) -> None:
    for version in ("1.2.0", "latest", "^1.0.0", "1.x"):
        answer = client.post(RUN, json={"args": {"n": 1}, "version": version})
        assert answer.json().get("version") == "1.2.0", answer.text
    check_problem(
        client.post(RUN, json={"args": {"n": 1}, "version": "9.9.9"}), 404, "version_not_found", "version"
    )


def test_schedules_come_with_a_run_and_their_ids_with_its_answer(client: httpx2.Client) -> None:
    schedules = [{"schedule": "*/5 * * * *", "message": "again"}, {"schedule": 3600, "message": "later"}]
    made = client.post("/api/v1/agents/@test/chat/run", json={"query": "x", "schedules": schedules}).json()[
        "schedules"
    ]
    assert [one["kind"] for one in made] == ["cron", "delay"]
    assert all(one["id"] and one["next_at"] for one in made)
    bad = {"query": "x", "schedules": [{"schedule": "61 * * * *", "message": "never"}]}
    answer = client.post("/api/v1/agents/@test/chat/run", json=bad)
    assert (answer.status_code, answer.json()["field"].startswith("schedules[0]")) == (400, True)


def test_an_inactive_agent_is_refused(client: httpx2.Client) -> None:
    agent = client.post("/api/v1/agents", json={"name": "sleepy"}).json()
    assert (
        client.patch(f"/api/v1/agents/{agent['id']}", json={"is_active": False}).json()["is_active"] is False
    )
    check_problem(
        client.post("/api/v1/agents/sleepy/run", json={"query": "x"}), 403, "agent_inactive", "agent"
    )
    client.patch(f"/api/v1/agents/{agent['id']}", json={"is_active": True})
    assert client.post("/api/v1/agents/sleepy/run", json={"query": "x"}).status_code == 202


def test_files_come_by_every_published_field_name(client: httpx2.Client) -> None:
    parts: list[tuple[str, Any]] = [
        ("query", (None, "Read these.")),
        ("files", (None, "<string>")),
        ("files", ("a.pdf", b"%PDF-1.4", "application/pdf")),
        ("files", ("../../b.csv", b"x,y", "text/csv")),
        ("file", ("c.txt", b"see", "text/plain")),
        ("files.items", ("d\r\n.bin", b"\0\1", "application/octet-stream")),
        ("output_config", (None, '{"output_schema": "a table", "instructions": "short"}')),
        ("request_metadata", (None, "theirs")),
    ]
    answer = client.post("/api/v1/agents/@test/chat/run", files=parts)
    assert answer.status_code == 202, answer.text
    task = client.get(f"/tasks/{answer.json()['task_id']}").json()
    files = task["input"]["files"]
    assert [(f["name"], f["field"], f["size"], f["media_type"]) for f in files] == [
        ("a.pdf", "files", 8, "application/pdf"),
        ("b.csv", "files", 3, "text/csv"),
        ("c.txt", "file", 3, "text/plain"),
        ("d%0D%0A.bin", "files.items", 2, "application/octet-stream"),
    ]
    assert task["input"]["output_config"] == {"output_schema": "a table", "instructions": "short"}
    got = client.get(f"/api/v1/files/{files[1]['id']}")
    assert got.content == b"x,y"
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''b.csv"


def test_a_file_alone_is_refused_with_what_to_do(client: httpx2.Client) -> None:
    assert client.post("/api/v1/agents/@test/chat/run", files={"file": ("a.txt", b"x")}).status_code == 202
    check_problem(
        client.post("/api/v1/agents/@test/chat/run", files={"files": (None, "text")}),
        400,
        "missing_input",
        "query",
    )


def test_an_oversized_upload_is_refused(api: Api, client: httpx2.Client) -> None:
    before = api.count_tasks()
    answer = client.post("/api/v1/agents/@test/chat/run", files={"file": ("a.bin", b"x" * 500_000)})
    check_problem(answer, 413, "payload_too_large")
    assert api.count_tasks() == before


def test_bad_json_inside_a_form_field_names_the_field(client: httpx2.Client) -> None:
    answer = client.post(
        "/api/v1/agents/@test/chat/run", files={"query": (None, "x"), "output_config": (None, "{")}
    )
    check_problem(answer, 400, "bad_json", "output_config")


@pytest.mark.parametrize("path", ["/api/v1/agents/@test/echo/dry-run", RUN + "?dry_run=1"])
def test_a_dry_run_returns_what_would_happen_and_stores_nothing(
    api: Api, client: httpx2.Client, path: str
) -> None:
    before = api.count_tasks()
    answer = client.post(path, json={"args": {"n": 1}})
    assert (answer.status_code, answer.json()["would"], answer.json()["dry_run"]) == (200, "start", True)
    check_problem(client.post(path, json={"args": {}}), 400, "invalid_input", "args.n")
    assert api.count_tasks() == before


def test_credentials_are_sealed_and_never_shown(api: Api, client: httpx2.Client) -> None:
    bearer = {"type": "bearer", "token": "mcp-s3cret"}
    oauth = {"type": "oauth", "oauth": {"accessToken": "oauth-s3cret"}}
    body = {
        "query": "x",
        "callback": {"url": "http://127.0.0.1:9999/hook", "headers": {"x-secret": "hook-s3cret"}},
        "mcp_servers": [
            {"serverName": "a", "serverUrl": "http://127.0.0.1:9998/mcp", "auth": bearer},
            {"serverName": "b", "serverUrl": "http://127.0.0.1:9998/mcp", "auth": oauth},
        ],
    }
    task_id = client.post("/api/v1/agents/@test/chat/run", json=body).json()["task_id"]
    shown = client.get(f"/tasks/{task_id}").text + client.get(f"/tasks/{task_id}/result").text
    assert "s3cret" not in shown
    with api.state.store.read() as conn:
        row = conn.execute(text("SELECT input, secrets FROM tasks WHERE id = :id"), {"id": task_id}).one()
    assert "s3cret" not in row.input
    assert b"s3cret" not in bytes(row.secrets)
    secrets = api.state.sealer.open(row.secrets)
    whole = unsealed(json.loads(row.input)["options"], secrets)
    assert whole["mcp_servers"] == body["mcp_servers"]
    assert whole["callback"] == body["callback"]


def test_lists_page_and_filter(client: httpx2.Client) -> None:
    marker = "Zebra Crossing"
    ids = [
        client.post("/api/v1/agents/@test/chat/run", json={"query": f"{marker} {i}"}).json()["task_id"]
        for i in range(5)
    ]
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        given: dict[str, Any] = {"q": "zebra", "limit": 2} | cursor
        page = client.get("/api/v1/tasks", params=given).json()
        seen += [task["task_id"] for task in page["data"]]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ids[::-1]
    task = client.get(f"/tasks/{ids[2]}").json()
    at = task["created_at"]
    around = client.get("/tasks", params={"created_after": at, "created_before": at, "q": "zebra"}).json()[
        "data"
    ]
    assert [t["task_id"] for t in around] == [ids[2]]
    by_version = client.get("/tasks", params={"agent_id": task["agent_id"], "q": "zebra"}).json()["data"]
    by_agent = client.get("/tasks", params={"agent_id": task["agent_group_id"], "q": "zebra"}).json()["data"]
    assert len(by_version) == len(by_agent) == 5
    assert client.get("/tasks", params={"status": "completed,failed", "q": "zebra"}).json()["data"] == []
    assert len(client.get("/tasks", params={"status": "pending", "q": "ZEBRA"}).json()["data"]) == 5


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("limit=0", "invalid_field", "limit"),
        ("limit=101", "invalid_field", "limit"),
        ("limit=many", "invalid_field", "limit"),
        ("cursor=%21%21", "invalid_cursor", "cursor"),
        ("status=done", "invalid_field", "status"),
        ("status=", "invalid_field", "status"),
        ("agent_id=7", "invalid_id", "agent_id"),
        ("created_after=yesterday", "invalid_field", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B23:59&created_after=9999-12-31T23:59:59-23:59", None, None),
        ("staus=failed", "unknown_field", "staus"),
        ("q=%00", "nul_character", "q"),
        ("limit=1&limit=2", "duplicate_parameter", "limit"),
    ],
)
def test_list_parameters_are_strict(
    client: httpx2.Client, query: str, code: str | None, field: str | None
) -> None:
    answer = client.get(f"/api/v1/tasks?{query}")
    if code is None:
        assert answer.status_code == 200
    else:
        check_problem(answer, 400, code, field)


def test_what_is_no_task_id_is_400_and_what_is_no_task_404(client: httpx2.Client) -> None:
    check_problem(client.get("/api/v1/tasks/7"), 400, "invalid_id", "task_id")
    missing = "00000000-0000-4000-8000-000000000000"
    check_problem(client.get(f"/api/v1/tasks/{missing}"), 404, "task_not_found", "task_id")
    check_problem(client.post(f"/api/v1/tasks/{missing}/cancel"), 404, "task_not_found", "task_id")


def test_an_unchanged_task_is_304(client: httpx2.Client) -> None:
    task_id = client.post(RUN, json={"args": {"n": 1}}).json()["task_id"]
    first = client.get(f"/tasks/{task_id}")
    again = client.get(f"/tasks/{task_id}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    client.post(f"/tasks/{task_id}/cancel")
    changed = client.get(f"/tasks/{task_id}", headers={"if-none-match": first.headers["etag"]})
    assert (changed.status_code, changed.json()["status"]) == (200, "stopped")


def test_cancel_is_idempotent_and_final(client: httpx2.Client) -> None:
    task_id = client.post(RUN, json={"args": {"n": 1}}).json()["task_id"]
    first = client.post(f"/tasks/{task_id}/cancel", json={"reason": "enough"})
    again = client.post(f"/tasks/{task_id}/cancel")
    assert (first.json()["status"], again.json()["status"]) == ("stopped", "stopped")
    task = client.get(f"/tasks/{task_id}").json()
    assert task["error"]["message"] == "enough"
    assert task["poll_after_ms"] is None
    check_problem(client.post(f"/tasks/{task_id}/message", json={"message": "hi"}), 409, "illegal_transition")


def test_tasks_are_stopped_and_retried_by_filter(client: httpx2.Client) -> None:
    for i in range(3):
        client.post("/api/v1/agents/@test/chat/run", json={"query": f"giraffe {i}"}).raise_for_status()
    stopped = client.post("/api/v1/tasks/cancel", json={"filter": {"q": "giraffe"}}).json()
    assert (stopped["count"], stopped["has_more"]) == (3, False)
    retried = client.post("/tasks/retry", json={"filter": {"q": "giraffe", "status": "stopped"}})
    assert (retried.status_code, retried.json()["count"]) == (202, 3)
    again = client.get(f"/tasks/{retried.json()['task_ids'][0]}").json()
    assert (again["status"], again["retry_of"] in stopped["task_ids"]) == ("pending", True)
    check_problem(client.post("/tasks/cancel", json={}), 400, "missing_field", "filter")
    check_problem(
        client.post("/tasks/cancel", json={"filter": {"sttus": "failed"}}),
        400,
        "unknown_field",
        "filter.sttus",
    )


def test_a_full_limit_queues_with_its_name_and_the_place_in_the_queue(client: httpx2.Client) -> None:
    agent = client.post("/api/v1/agents", json={"name": "narrow"}).json()
    limit = client.post(
        "/api/v1/limits", json={"kind": "agent", "selector": agent["full_name"], "max_concurrent": 1}
    )
    assert limit.status_code == 201, limit.text
    ids = [client.post("/api/v1/agents/narrow/run", json={"query": "x"}).json() for _ in range(3)]
    assert [task["status"] for task in ids] == ["pending", "queued", "queued"]
    assert ids[2]["queue"]["limit"] == "agent:@default/narrow"
    assert [task["queue"]["position"] for task in ids[1:]] == [1, 2]
    shown = client.get(f"/tasks/{ids[2]['task_id']}").json()
    assert shown["queue"] == ids[2]["queue"]
    assert shown["queue"]["basis"]
    assert shown["poll_after_ms"] >= 1000
    dry = client.post("/api/v1/agents/narrow/run?dry_run=1", json={"query": "x"}).json()
    assert (dry["would"], dry["held_by"]) == ("queue", "agent:@default/narrow")
    client.delete(f"/api/v1/limits/{limit.json()['id']}")
    assert client.get(f"/tasks/{ids[2]['task_id']}", params={"wait": 5}).json()["status"] in (
        "queued",
        "pending",
    )
    wait_until(lambda: client.get(f"/tasks/{ids[2]['task_id']}").json()["status"] == "pending")


def test_limits_are_made_read_replaced_and_deleted(client: httpx2.Client) -> None:
    made = client.post(
        "/api/v1/limits", json={"kind": "end_user", "rate_count": 5, "rate_seconds": 60}
    ).json()
    path = f"/api/v1/limits/{made['id']}"
    assert client.get(path).json() == made
    replaced = client.put(path, json={"kind": "end_user", "max_concurrent": 2, "strategy": "reject"}).json()
    assert (replaced["max_concurrent"], replaced["rate_count"]) == (2, None)
    assert made["id"] in [limit["id"] for limit in client.get("/api/v1/limits").json()["data"]]
    assert client.delete(path).status_code == 204
    check_problem(client.get(path), 404, "limit_not_found", "limit_id")
    check_problem(
        client.post("/api/v1/limits", json={"kind": "agent"}), 400, "invalid_limit", "max_concurrent"
    )
    assert [e["action"] for e in client.get("/api/v1/audit").json()["data"]][:3] == [
        "limit.delete", "limit.save", "limit.save",
    ]  # fmt: skip


def test_the_same_request_with_the_same_key_makes_one_run(api: Api, client: httpx2.Client) -> None:
    headers = {"idempotency-key": "order-77"}
    first = client.post(RUN, json={"args": {"n": 7}}, headers=headers)
    before = api.count_tasks()
    again = client.post(RUN, json={"args": {"n": 7}}, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    assert api.count_tasks() == before
    check_problem(
        client.post(RUN, json={"args": {"n": 8}}, headers=headers),
        422,
        "idempotency_conflict",
        "Idempotency-Key",
    )
    check_problem(
        client.post(RUN, json={"args": {"n": 7}}, headers={"idempotency-key": "x" * 256}), 400,
        "invalid_idempotency_key", "Idempotency-Key",
    )  # fmt: skip


def test_a_request_whose_process_died_is_taken_over_without_a_second_run(
    api: Api, client: httpx2.Client
) -> None:
    headers = {"idempotency-key": "crash-1"}
    first = client.post(RUN, json={"args": {"n": 7}}, headers=headers).json()
    with api.state.store.begin() as tx:  # as if the process had died between storing the run and its answer
        unfinished = (
            "UPDATE idempotency SET status = NULL, body = NULL, lease_until = 1, headers = :h WHERE key = :k"
        )
        reserved = json.dumps({"reserved": first["task_id"]})
        tx.conn.execute(text(unfinished), {"h": reserved, "k": "crash-1"})
    before = api.count_tasks()
    again = client.post(RUN, json={"args": {"n": 7}}, headers=headers)
    assert (again.status_code, again.json()["task_id"]) == (202, first["task_id"])
    assert api.count_tasks() == before


def test_a_request_still_under_way_is_409_with_when_to_retry(api: Api, client: httpx2.Client) -> None:
    headers = {"idempotency-key": "busy-1"}
    client.post(RUN, json={"args": {"n": 7}}, headers=headers)
    with api.state.store.begin() as tx:
        tx.conn.execute(text("UPDATE idempotency SET status = NULL, lease_until = 9e12 WHERE key = 'busy-1'"))
    answer = client.post(RUN, json={"args": {"n": 7}}, headers=headers)
    check_problem(answer, 409, "idempotency_in_progress", "Idempotency-Key")
    assert answer.headers["retry-after"] == "1"


def test_a_refused_request_frees_its_key(client: httpx2.Client) -> None:
    headers = {"idempotency-key": "fresh-1"}
    limit = client.post(
        "/api/v1/limits", json={"kind": "end_user", "max_concurrent": 0, "strategy": "reject"}
    ).json()
    body = {"args": {"n": 1}, "end_user_id": "u-1"}
    check_problem(client.post(RUN, json=body, headers=headers), 409, "limit_reached")
    client.delete(f"/api/v1/limits/{limit['id']}")
    assert client.post(RUN, json=body, headers=headers).status_code == 202


def test_a_backlog_at_its_bound_is_429_with_when_to_retry(tmp_path: Path) -> None:
    with Api(tmp_path / "home", max_queued=2) as api, api.client() as client:
        client.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
        answers = [client.post("/api/v1/agents/chat/run", json={"query": "x"}) for _ in range(3)]
        assert [a.status_code for a in answers] == [202, 202, 429]
        problem = check_problem(answers[2], 429, "backlog_full")
        assert answers[2].headers["retry-after"] == str(problem["retry_after"])


def test_an_organisation_without_balance_gets_402(api: Api, client: httpx2.Client) -> None:
    with api.state.store.begin() as tx:
        tx.conn.execute(text("UPDATE organisations SET balance_micros = 0"))
    try:
        check_problem(client.post(RUN, json={"args": {"n": 1}}), 402, "quota_exceeded")
    finally:
        with api.state.store.begin() as tx:
            tx.conn.execute(text("UPDATE organisations SET balance_micros = NULL"))


def test_sessions_are_shared_by_their_name_and_their_id(client: httpx2.Client) -> None:
    run = "/api/v1/agents/@test/chat/run"
    first = client.post(run, json={"query": "a", "session_id": "chat 42"}).json()
    assert first["status"] == "pending"
    second = client.post(run, json={"query": "b", "session_id": "chat 42"}).json()
    assert second["session_id"] == first["session_id"]
    assert (second["status"], second["queue"]["limit"]) == ("queued", f"session:{first['session_id']}")
    by_id = client.post(
        run, json={"query": "c", "session_id": first["session_id"], "session_strategy": "reject"}
    )
    check_problem(by_id, 409, "limit_reached")
    session = client.get(f"/api/v1/sessions/{first['session_id']}").json()
    assert session == client.get("/api/v1/sessions/chat%2042").json()
    assert (session["key"], session["strategy"]) == ("chat 42", "enqueue")
    assert (
        client.patch("/api/v1/sessions/chat%2042", json={"strategy": "reject"}).json()["strategy"] == "reject"
    )
    fork = client.post("/api/v1/sessions/chat%2042/fork", json={"key": "branch"}).json()
    assert fork["forked_from"] == first["session_id"]
    check_problem(
        client.post("/api/v1/sessions/chat%2042/fork", json={"key": "branch"}), 409, "session_exists", "key"
    )
    check_problem(client.delete("/api/v1/sessions/chat%2042"), 409, "session_busy")
    assert client.delete("/api/v1/sessions/branch").status_code == 204
    check_problem(client.get("/api/v1/sessions/branch"), 404, "session_not_found", "session_id")


def test_agents_are_made_changed_published_and_deleted(client: httpx2.Client) -> None:
    made = client.post("/api/v1/agents", json={"name": "Helper", "system_prompt": "Be kind."})
    assert made.status_code == 201
    agent = made.json()
    assert (agent["name"], agent["version_number"], agent["status"]) == ("Helper", 1, "draft")
    assert (agent["config"]["system_prompt"], agent["is_active"]) == ("Be kind.", True)
    path = f"/api/v1/agents/{agent['id']}"
    changed = client.patch(path, json={"system_prompt": "Be brief."}).json()
    assert (changed["id"], changed["version_number"], changed["config"]) == (
        agent["id"],
        1,
        {"system_prompt": "Be brief."},
    )
    assert client.post(f"{path}/versions/publish").json()["status"] == "published"
    check_problem(client.post(f"{path}/versions/publish"), 409, "no_draft")
    draft = client.patch(path, json={"config": {"system_prompt": "Be grand.", "odd": [1]}}).json()
    assert (draft["status"], draft["version_number"]) == ("draft", 2)
    assert client.get(path).json()["config"] == {"system_prompt": "Be brief."}
    assert client.post("/api/v1/agents/helper/run", json={"query": "x"}).json()["agent_id"] == agent["id"]
    live = client.post(f"{path}/versions/publish").json()
    assert (live["status"], live["config"]["odd"]) == ("published", [1])
    versions = client.get(f"{path}/versions").json()["data"]
    assert [(v["version_number"], v["status"]) for v in versions] == [(2, "published"), (1, "archived")]
    assert "config" not in versions[0]
    check_problem(client.post("/api/v1/agents", json={"name": "Helper"}), 409, "name_taken", "name")
    check_problem(client.delete(path), 409, "agent_in_use")


def test_agents_without_a_name_get_the_next_free_one(client: httpx2.Client) -> None:
    names = [client.post("/api/v1/agents").json()["name"] for _ in range(2)]
    assert names == ["Untitled Agent 1", "Untitled Agent 2"]
    listed = client.get("/api/v1/agents", params={"q": "untitled", "limit": 1}).json()
    assert ([a["name"] for a in listed["data"]], listed["has_more"]) == (["Untitled Agent 2"], True)


def test_manifests_are_published_once_and_tags_steer(client: httpx2.Client) -> None:
    yaml_text = "name: '@test/tagged'\nversion: 1.0.0\ninstructions: One.\n"
    first = client.post(
        "/api/v1/agents/manifests", content=yaml_text, headers={"content-type": "application/yaml"}
    )
    assert first.status_code == 201, first.text
    again = client.post(
        "/api/v1/agents/manifests", json={"name": "@test/tagged", "version": "1.0.0", "instructions": "One."}
    )
    assert again.json()["id"] == first.json()["id"]
    other = client.post(
        "/api/v1/agents/manifests", json={"name": "@test/tagged", "version": "1.0.0", "instructions": "Two."}
    )
    check_problem(other, 409, "version_exists", "version")
    client.post(
        "/api/v1/agents/manifests", json={"name": "@test/tagged", "version": "2.0.0"}
    ).raise_for_status()
    run = "/api/v1/agents/@test/tagged/run"
    assert client.post(run, json={"query": "x"}).json()["version"] == "2.0.0"
    tags = client.put("/api/v1/agents/@test/tagged/tags/stable", json={"version": "1.0.0"}).json()["data"]
    assert tags == {"latest": "2.0.0", "stable": "1.0.0"}
    assert client.post(run, json={"query": "x", "version": "stable"}).json()["version"] == "1.0.0"
    client.patch("/api/v1/agents/@test/tagged/versions/2.0.0", json={"yanked": True}).raise_for_status()
    assert client.post(run, json={"query": "x", "version": ">=1"}).json()["version"] == "1.0.0"
    assert client.delete("/api/v1/agents/@test/tagged/tags/stable").status_code == 204
    check_problem(client.delete("/api/v1/agents/@test/tagged/tags/stable"), 404, "tag_not_found", "tag")
    bomb = "a: &a [x, x]\nb: [*a, *a]\n"
    answer = client.post(
        "/api/v1/agents/manifests", content=bomb, headers={"content-type": "application/yaml"}
    )
    check_problem(answer, 400, "bad_yaml")
    check_problem(
        client.post("/api/v1/agents/manifests", json={"name": "@x"}), 400, "invalid_manifest", "name"
    )


def test_keys_are_shown_once_and_end_at_once(api: Api, client: httpx2.Client) -> None:
    made = client.post(
        "/api/v1/keys", json={"name": "ci", "scopes": ["runs:create", "runs:read", "agents:read"]}
    ).json()
    assert made["key"].startswith("ry_")
    assert made["key"] not in client.get("/api/v1/keys").text
    with api.client(made["key"]) as limited:
        assert limited.post(RUN, json={"args": {"n": 1}}).status_code == 202
        problem = check_problem(limited.get("/api/v1/limits"), 403, "missing_permission")
        assert problem["permission"] == "limits:read"
        check_problem(limited.post("/api/v1/keys", json={"name": "more"}), 403, "missing_permission")
        assert client.delete(f"/api/v1/keys/{made['id']}").status_code == 204
        check_problem(limited.get("/tasks"), 401, "key_revoked")
    check_problem(client.delete(f"/api/v1/keys/{made['id']}"), 404, "key_not_found")


def test_no_key_reaches_beyond_its_maker(api: Api, client: httpx2.Client) -> None:
    check_problem(
        client.post("/api/v1/keys", json={"name": "x", "role": "owner"}), 403, "role_exceeds_creator", "role"
    )
    check_problem(
        client.post("/api/v1/keys", json={"name": "x", "scopes": ["runs:fly"]}),
        400,
        "unknown_scope",
        "scopes[0]",
    )
    scoped = client.post(
        "/api/v1/keys", json={"name": "k", "role": "admin", "scopes": ["keys:write", "runs:read"]}
    ).json()
    with api.client(scoped["key"]) as limited:
        more = limited.post("/api/v1/keys", json={"name": "x", "scopes": ["limits:write"]})
        check_problem(more, 403, "scope_exceeds_creator", "scopes")
        child = limited.post("/api/v1/keys", json={"name": "x"}).json()
        assert child["scopes"] == ["keys:write", "runs:read"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_credentials"),
        ("Basic dXNlcjpwYXNz", "bad_credentials"),
        ("Bearer", "bad_credentials"),
        ("Bearer ry_" + "0" * 48, "key_unknown"),
        ("Bearer ask_nothing", "key_unknown"),
        ("Bearer agb_foreign", "key_unknown"),
        ("Bearer a.b.c", "token_invalid"),
        ("Bearer " + "x" * 20_000, "bad_credentials"),
    ],
)
def test_bad_credentials_are_401_with_what_is_wrong(api: Api, header: str | None, code: str) -> None:
    with api.client("") as client:
        answer = client.get("/tasks", headers={"authorization": header} if header else {})
        check_problem(answer, 401, code)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_expired_key_is_refused(api: Api) -> None:
    with api.state.store.begin() as tx:
        made = identity.create_key(
            tx, api.state.org_id, KeyRequest("old", expires_at=tx.now + 3600), "system", Role.ADMIN
        )
        tx.conn.execute(text("UPDATE api_keys SET expires_at = 1 WHERE id = :id"), {"id": made.id})
    with api.client(made.key) as client:
        check_problem(client.get("/tasks"), 401, "key_expired")


def other_organisation(api: Api) -> str:
    """The admin key of another organisation."""
    with api.state.store.begin() as tx:
        org_id = identity_store.insert_organisation(tx, "other")
        return identity.create_key(tx, org_id, KeyRequest("admin", Role.ADMIN), "system", Role.ADMIN).key


def test_the_operator_sees_the_installation_and_others_themselves(api: Api, client: httpx2.Client) -> None:
    mine = client.get("/api/v1/ops/queue").json()
    assert (mine["scope"], mine["waiting"] > 0, mine["wanted_workers"]) == ("installation", True, 1)
    assert client.get("/api/v1/ops/workers").json() == {"data": []}
    with api.client(other_organisation(api)) as stranger:
        theirs = stranger.get("/api/v1/ops/queue").json()
        assert (theirs["scope"], theirs["waiting"]) == ("organisation", 0)
        check_problem(stranger.get("/api/v1/ops/workers"), 403, "operator_only")


def test_health_metrics_and_documents_need_no_key(api: Api) -> None:
    with api.client("") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["database"]) == (200, "ok")
        assert ready.json()["status"] == "degraded"  # there is no Redis here
        metrics = client.get("/metrics").text
        assert "runyard_runs_accepted_total" in metrics
        assert "runyard_wanted_workers" in metrics
        assert "runyard_loop_lag_s" in metrics
        assert "runyard_threads_held" in metrics
        assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
        page = client.get("/docs").text
        assert "http://" not in page
        assert "https://" not in page.replace("https://json-schema.org", "")
        assert "<script" not in page


def test_unknown_routes_and_methods_are_problems_too(client: httpx2.Client) -> None:
    check_problem(client.get("/api/v1/nothing"), 404, "route_not_found")
    answer = client.delete("/api/v1/tasks")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    check_problem(client.get(RUN), 405, "method_not_allowed")


def test_a_shared_agent_is_run_by_all_and_changed_by_its_owner_alone(api: Api) -> None:
    with api.state.store.begin() as tx:
        manifest = parse({"name": "@demo/shared", "instructions": "x"})
        agents.publish(tx, api.state.org_id, manifest, shared=True)
    with api.client(other_organisation(api)) as stranger:
        assert stranger.post("/api/v1/agents/@demo/shared/run", json={"query": "x"}).status_code == 202
        check_problem(
            stranger.patch("/api/v1/agents/@demo/shared", json={"is_active": False}), 403, "agent_shared"
        )


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59-00:01"])
def test_a_key_ends_at_a_time_that_can_be_shown(client: httpx2.Client, at: str) -> None:
    refused = client.post("/api/v1/keys", json={"name": "k", "expires_at": at})
    check_problem(refused, 400, "invalid_field", "expires_at")


@pytest.mark.parametrize("end", [1e308, 1e15, 253_402_300_800.0, -1.0])
def test_a_schedule_ends_at_a_time_that_can_be_shown(end: float) -> None:
    with pytest.raises(ScheduleError) as refused:
        Lifetime(end_at=end)
    assert (refused.value.code, refused.value.field) == ("bad_end", "end_at")
