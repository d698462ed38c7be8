"""The appstrate contract, section 6: what is kept under an idempotency key, what frees it, who takes it over."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_api import idempotency
from tests.api_server import Api
from tests.contract.appstrate import fresh, made, problem, publish, start
from tests.members import key, organisation

HOOK = {"url": "https://example.com/h", "events": ["run.failed"], "scope": "organization"}


def keyed(name: str | None = None) -> dict[str, str]:
    return {"idempotency-key": name or fresh("key")}


def unfinished(api: Api, name: str, made: str, lease_until: float) -> None:
    """What was made is stored, but its answer is not: the process died in between."""
    query = "UPDATE idempotency SET status = NULL, body = NULL, lease_until = :l, headers = :h WHERE key = :k"
    values: dict[str, Any] = {"l": lease_until, "k": name, "h": f'{{"reserved": "{made}"}}'}
    with api.state.store.begin() as tx:
        assert tx.conn.execute(text(query), values).rowcount == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/webhooks", HOOK), ("/api/end-users", {"externalId": "ext-1", "name": "A"})],
)
def test_what_a_dead_process_made_is_returned_again_and_not_made_twice(
    api: Api, client: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    headers = keyed(f"dead{path}")
    first = made(client.post(path, json=body, headers=headers))
    _, _, reserved = str(first["id"]).partition("_")
    unfinished(api, headers["idempotency-key"], reserved, 9e12)
    problem(client.post(path, json=body, headers=headers), 409, "idempotency_in_progress")
    unfinished(api, headers["idempotency-key"], reserved, 1)
    again = client.post(path, json=body, headers=headers)
    assert "idempotent-replayed" not in again.headers
    assert made(again) == first
    assert [row["id"] for row in client.get(path).json()["data"]].count(first["id"]) == 1
    if path == "/api/webhooks":
        client.delete(f"{path}/{first['id']}")


def test_another_body_conflicts_even_while_the_first_is_under_way(api: Api, client: httpx2.Client) -> None:
    headers = keyed("under-way")
    first = made(client.post("/api/end-users", json={"name": "A"}, headers=headers))
    unfinished(api, "under-way", first["id"].removeprefix("eu_"), 9e12)
    refused = client.post("/api/end-users", json={"name": "B"}, headers=headers)
    body = problem(refused, 422, "idempotency_conflict")
    assert body["title"] == "Idempotency Conflict"
    body = problem(
        client.post("/api/end-users", json={"name": "A"}, headers=headers), 409, "idempotency_in_progress"
    )
    assert body["title"] == "Idempotency In Progress"
    assert body["detail"] == (
        "A request with the same Idempotency-Key is already being processed. Please wait and retry."
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [({"input": {}}, 400, "invalid_request"), ({"input": {"n": 1}}, 400, "empty_prompt")],
)
def test_a_400_is_replayed_whole_although_its_cause_is_gone(
    client: httpx2.Client, body: dict[str, Any], status: int, code: str
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    package, headers = publish(client, schema, instructions=" "), keyed()
    first = client.post(f"/api/agents/{package}/run", json=body, headers=headers)
    problem(first, status, code)
    mended = {"name": package, "version": "2.0.0", "instructions": "Do it."}
    assert client.post("/api/v1/agents/manifests", json=mended).status_code == 201
    again = client.post(f"/api/agents/{package}/run", json=body, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.json()["requestId"] == first.headers["request-id"] != again.headers["request-id"]
    assert again.headers["appstrate-version"] == "2026-03-21"


def test_a_402_is_replayed_too(api: Api) -> None:
    org_id = organisation(api, fresh("broke"))
    with api.client(key(api, org_id)) as client:
        package, headers = publish(client), keyed()
        with api.state.store.begin() as tx:
            query = text("UPDATE organisations SET balance_micros = :left WHERE id = :id")
            tx.conn.execute(query, {"left": 0, "id": org_id})
        problem(start(client, package, headers=headers), 402, "quota_exceeded")
        with api.state.store.begin() as tx:
            tx.conn.execute(query, {"left": None, "id": org_id})
        again = start(client, package, headers=headers)
        problem(again, 402, "quota_exceeded")
        assert again.headers["idempotent-replayed"] == "true"
        assert start(client, package, headers=keyed()).status_code == 200


def test_an_answer_above_a_megabyte_is_not_kept(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert idempotency._LARGEST_KEPT == 1 << 20
    headers = keyed()
    monkeypatch.setattr(idempotency, "_LARGEST_KEPT", 10)
    first = client.post("/api/end-users", json={}, headers=headers)
    second = client.post("/api/end-users", json={}, headers=headers)
    assert first.status_code == second.status_code == 201
    assert first.json()["id"] != second.json()["id"]
    assert "idempotent-replayed" not in second.headers


def test_the_body_is_what_its_bytes_are(client: httpx2.Client) -> None:
    package, headers = publish(client), keyed() | {"content-type": "application/json"}
    path = f"/api/agents/{package}/run"
    first = client.post(path, content=b'{"input":{}}', headers=headers)
    assert client.post(path, content=b'{"input":{}}', headers=headers).json() == first.json()
    problem(client.post(path, content=b'{"input": {}}', headers=headers), 422, "idempotency_conflict")


def test_another_organisation_has_its_own_keys(api: Api, client: httpx2.Client) -> None:
    headers = keyed()
    mine = client.post("/api/end-users", json={}, headers=headers)
    with api.client(key(api, organisation(api, fresh("own")))) as other:
        theirs = other.post("/api/end-users", json={}, headers=headers)
    assert theirs.status_code == 201
    assert theirs.json()["id"] != mine.json()["id"]


def test_a_conflict_leaves_the_kept_answer_alone(client: httpx2.Client) -> None:
    headers = keyed()
    first = client.post("/api/end-users", json={"name": "A"}, headers=headers)
    problem(client.post("/api/end-users", json={"name": "B"}, headers=headers), 422, "idempotency_conflict")
    assert client.post("/api/end-users", json={"name": "A"}, headers=headers).json() == first.json()


def test_a_webhooks_secret_is_shown_again_and_lies_sealed_meanwhile(api: Api, client: httpx2.Client) -> None:
    headers = keyed()
    first = made(client.post("/api/webhooks", json=HOOK, headers=headers))
    assert made(client.post("/api/webhooks", json=HOOK, headers=headers))["secret"] == first["secret"]
    query = text("SELECT body FROM idempotency WHERE key = :k")
    with api.state.store.read() as conn:
        kept = bytes(conn.execute(query, {"k": headers["idempotency-key"]}).scalar_one())
    assert kept
    assert first["secret"].removeprefix("whsec_").encode() not in kept
