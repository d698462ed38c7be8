"""The native API over HTTP, on a real server and a real database: what is accepted, refused, returned and stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_common.runs.service.runs import unsealed
from runyard_common.schedules.rules.policies import Lifetime
from runyard_common.values.errors import ScheduleError
from tests.api_server import Api
from tests.malformed import MALFORMED
from tests.problems import check_problem

RUN = "/api/v1/agents/@test/echo/run"


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


@pytest.mark.parametrize("end", [1e308, 1e15, 253_402_300_800.0, -1.0])
def test_a_schedule_ends_at_a_time_that_can_be_shown(end: float) -> None:
    with pytest.raises(ScheduleError) as refused:
        Lifetime(end_at=end)
    assert (refused.value.code, refused.value.field) == ("bad_end", "end_at")
