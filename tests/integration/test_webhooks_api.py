"""Webhooks and deliveries over HTTP, on a real server: made, changed, refused, shown, sent again."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import pytest

from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity
from runyard_common.identity.service.identity import KeyRequest
from tests.api_server import Api
from tests.problems import check_problem

WEBHOOKS = "/api/v1/webhooks"
URL = "https://hooks.example.com/in?token=1"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server without workers: what is promised stays pending."""
    home = tmp_path_factory.mktemp("api") / "home"
    with Api(home, allow_private_urls=False, allowed_hosts="hooks.corp,10.1.0.0/16,127.0.0.9") as server:
        with server.client() as client:
            made = client.post(
                "/api/v1/agents/manifests", json={"name": "@test/echo", "instructions": "Echo."}
            )
            assert made.status_code == 201, made.text
        yield server


@pytest.fixture
def client(api: Api) -> Iterator[httpx2.Client]:
    """A client with the admin key; its organisation begins without webhooks."""
    with api.client() as client:
        yield client
        for webhook in client.get(WEBHOOKS).json()["data"]:
            assert client.delete(f"{WEBHOOKS}/{webhook['id']}").status_code == 204


def make(client: httpx2.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post(WEBHOOKS, json={"url": URL} | fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def run(client: httpx2.Client, **fields: Any) -> str:
    answer = client.post("/api/v1/agents/@test/echo/run", json={"query": "x"} | fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def test_a_webhook_is_made_with_a_secret_that_is_shown_once(api: Api, client: httpx2.Client) -> None:
    answer = client.post(WEBHOOKS, json={"url": URL}, headers={"Idempotency-Key": "once"})
    made = answer.json()
    secret = made.pop("secret")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert answer.headers["location"] == f"{WEBHOOKS}/{made['id']}"
    assert made["id"].startswith("wh_")
    assert (made["events"], made["style"], made["payload_mode"], made["active"]) == (
        ["*"],
        "native",
        "full",
        True,
    )
    assert client.get(answer.headers["location"]).json() == made
    assert client.get(WEBHOOKS).json()["data"] == [made]
    again = client.post(WEBHOOKS, json={"url": URL}, headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()["id"], again.json()["secret"]) == (201, made["id"], "")
    with api.state.store.read() as conn:
        for row in conn.exec_driver_sql("SELECT body FROM idempotency"):
            assert secret.encode() not in bytes(row.body or b"")


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"url": "http://hooks.example.com/"}, "url_refused", "url"),
        ({"url": "https://127.0.0.1/"}, "url_refused", "url"),
        ({"url": "https://localhost/"}, "url_refused", "url"),
        ({"url": "https://user:pass@hooks.example.com/"}, "url_refused", "url"),
        ({"url": "ftp://hooks.example.com/"}, "url_refused", "url"),
        ({"url": "x" * 3000}, "invalid_field", "url"),
        ({"events": []}, "invalid_field", "events"),
        ({"events": ["run.done"]}, "invalid_events", "events[0]"),
        ({"events": ["run.queued"], "style": "appstrate"}, "invalid_events", "events[0]"),
        ({"style": "slack"}, "invalid_field", "style"),
        ({"max_parallel": 0}, "invalid_field", "max_parallel"),
        ({"max_per_second": 1e9}, "invalid_field", "max_per_second"),
        ({"secret": "whsec_mine"}, "unknown_field", "secret"),
    ],
)
def test_what_will_not_do_is_refused_with_the_reason(
    client: httpx2.Client, fields: dict[str, Any], code: str, field: str
) -> None:
    check_problem(client.post(WEBHOOKS, json={"url": URL} | fields), 400, code, field)
    assert client.get(WEBHOOKS).json()["data"] == []


def test_what_the_operator_opened_may_be_plain_http(client: httpx2.Client) -> None:
    assert make(client, url="http://hooks.corp/in")["url"] == "http://hooks.corp/in"


def test_an_unknown_agent_is_refused_and_a_known_one_filters(client: httpx2.Client) -> None:
    check_problem(
        client.post(WEBHOOKS, json={"url": URL, "agent": "missing"}), 404, "agent_not_found", "agent"
    )
    made = make(client, agent="@test/echo")
    agent = client.get("/api/v1/agents/@test/echo").json()
    assert made["agent_id"] == agent["agent_group_id"]
    assert client.patch(f"{WEBHOOKS}/{made['id']}", json={"agent": None}).json()["agent_id"] is None


def test_there_are_at_most_twenty(client: httpx2.Client) -> None:
    for _ in range(20):
        make(client)
    check_problem(client.post(WEBHOOKS, json={"url": URL}), 400, "webhook_limit_reached")
    assert len(client.get(WEBHOOKS).json()["data"]) == 20


def test_a_webhook_is_changed_field_by_field(client: httpx2.Client) -> None:
    made = make(client)
    path = f"{WEBHOOKS}/{made['id']}"
    changed = client.patch(
        path, json={"events": ["run.failed"], "max_parallel": 3, "metadata": {"a": 1}}
    ).json()
    assert (changed["events"], changed["max_parallel"], changed["metadata"]) == (["run.failed"], 3, {"a": 1})
    assert changed["url"] == URL
    check_problem(client.patch(path, json={"url": "https://10.0.0.1/"}), 400, "url_refused", "url")
    assert client.patch(path, json={"active": False}).json()["disabled_reason"] == "by_hand"
    assert client.post(f"{path}/enable").json()["active"] is True
    assert client.post(f"{path}/disable").json()["active"] is False
    check_problem(client.post(f"{path}/test"), 400, "endpoint_disabled")


def test_rotation_returns_a_new_secret_and_lets_the_old_one_sign_for_a_day(client: httpx2.Client) -> None:
    made = make(client)
    path = f"{WEBHOOKS}/{made['id']}"
    rotated = client.post(f"{path}/rotate").json()
    assert rotated["secret"] != made["secret"]
    assert client.get(path).json()["old_secret_until"] is not None
    first, second = (client.post(f"{WEBHOOKS}/callbacks/rotate").json()["secret"] for _ in range(2))
    assert first != second
    assert [w["id"] for w in client.get(WEBHOOKS).json()["data"]] == [made["id"]]


def test_a_run_is_promised_to_webhooks_and_its_deliveries_are_listed(client: httpx2.Client) -> None:
    made = make(client, events=["run.pending", "run.stopped"])
    task_id = run(client)
    client.post(f"/tasks/{task_id}/cancel")
    listed = client.get(f"/tasks/{task_id}/deliveries").json()["data"]
    assert [d["event_type"] for d in listed] == ["run.stopped", "run.pending"]
    assert {(d["webhook_id"], d["state"], d["attempt"]) for d in listed} == {(made["id"], "pending", 0)}
    assert client.get(f"{WEBHOOKS}/{made['id']}/deliveries").json()["data"] == listed
    first = client.get(f"{WEBHOOKS}/{made['id']}/deliveries", params={"limit": 1}).json()
    assert (first["data"], first["has_more"]) == (listed[:1], True)
    rest = client.get(f"{WEBHOOKS}/{made['id']}/deliveries", params={"cursor": first["next_cursor"]}).json()
    assert (rest["data"], rest["has_more"]) == (listed[1:], False)
    whole = client.get(f"/api/v1/deliveries/{listed[0]['id']}").json()
    assert whole["payload"]["data"]["task_id"] == task_id
    only = client.get(f"/tasks/{task_id}/deliveries", params={"event": "run.pending"}).json()["data"]
    assert only == listed[1:]
    check_problem(client.post(f"/api/v1/deliveries/{listed[0]['id']}/redeliver"), 409, "already_pending")


def test_a_callbacks_url_is_checked_and_its_headers_kept_sealed(api: Api, client: httpx2.Client) -> None:
    refused = client.post(
        "/api/v1/agents/@test/echo/run", json={"query": "x", "callback": {"url": "http://127.0.0.1/"}}
    )
    check_problem(refused, 400, "url_refused", "callback.url")
    callback = {"url": "https://hooks.example.com/", "headers": {"X-Key": "of-the-caller"}}
    task_id = run(client, callback=callback)
    assert "of-the-caller" not in client.get(f"/tasks/{task_id}").text
    with api.state.store.read() as conn:
        (row,) = conn.exec_driver_sql("SELECT * FROM callbacks WHERE task_id = ?", (task_id,))
    assert row.url == callback["url"]
    assert api.state.sealer.open(row.headers) == callback["headers"]
    client.post(f"/tasks/{task_id}/cancel")
    listed = client.get(f"/tasks/{task_id}/deliveries").json()["data"]
    assert [d["event_type"] for d in listed] == ["run.stopped", "agent_error"]
    assert {d["webhook_id"] for d in listed} == {None}


def test_dead_deliveries_are_seen_and_sent_again_one_many_or_by_time(client: httpx2.Client) -> None:
    made = make(client, events=["run.pending"])
    path = f"{WEBHOOKS}/{made['id']}"
    ids = [run(client) for _ in range(3)]
    client.post(f"{path}/disable")
    dead = client.get("/api/v1/deliveries", params={"state": "dead"}).json()["data"]
    mine = [d for d in dead if d["webhook_id"] == made["id"]]
    assert {d["task_id"] for d in mine} == set(ids)
    assert {d["error"] for d in mine} == {"endpoint_disabled"}
    one = f"/api/v1/deliveries/{mine[0]['id']}/redeliver"
    check_problem(client.post(one), 409, "endpoint_disabled")
    check_problem(client.post(f"{path}/replay", json={}), 409, "endpoint_disabled")
    client.post(f"{path}/enable")
    sent = client.post(one)
    assert (sent.status_code, sent.json()["state"]) == (202, "pending")
    many = client.post(
        "/api/v1/deliveries/redeliver", json={"ids": [d["id"] for d in mine[:2]] + ["no"]}
    ).json()
    assert many["delivery_ids"] == [mine[1]["id"]]
    assert [r["code"] for r in many["refused"]] == ["already_pending", "delivery_not_found"]
    at = mine[2]["created_at"]
    body = {"state": "dead", "created_after": at, "created_before": at}
    replayed = client.post(f"{path}/replay", json=body)
    assert replayed.status_code == 202
    assert replayed.json()["delivery_ids"] == [mine[2]["id"]]
    assert client.post(f"{path}/replay", json={"created_before": "2020-01-01"}).json()["count"] == 0
    check_problem(
        client.post(f"{path}/replay", json={"created_after": "soon"}), 400, "invalid_field", "created_after"
    )


def test_a_payload_is_shown_without_the_link_that_answers(api: Api, client: httpx2.Client) -> None:
    make(client, events=["run.pending"])
    task_id = run(client)
    (delivery,) = client.get(f"/tasks/{task_id}/deliveries").json()["data"]
    link = f"answer://{delivery['event_id']}/{task_id}"
    with api.state.store.begin() as tx:
        tx.conn.exec_driver_sql(
            "UPDATE deliveries SET body = ? WHERE id = ?",
            (orjson.dumps({"answer_url": link}).decode(), delivery["id"]),
        )
    shown = client.get(f"/api/v1/deliveries/{delivery['id']}").json()["payload"]
    assert shown == {"answer_url": None}


def test_a_member_reads_webhooks_and_changes_none(api: Api, client: httpx2.Client) -> None:
    made = make(client)
    with api.state.store.begin() as tx:
        key = identity.create_key(
            tx, api.state.org_id, KeyRequest("member", Role.MEMBER), "system", Role.ADMIN
        ).key
    with api.client(key) as member:
        assert member.get(f"{WEBHOOKS}/{made['id']}").status_code == 200
        for method, path in (("POST", WEBHOOKS), ("POST", f"{WEBHOOKS}/{made['id']}/rotate")):
            check_problem(member.request(method, path, json={"url": URL}), 403, "missing_permission")


def test_what_was_done_is_in_the_audit_log(api: Api, client: httpx2.Client) -> None:
    made = make(client)
    client.post(f"{WEBHOOKS}/{made['id']}/rotate")
    client.post(f"{WEBHOOKS}/{made['id']}/test")
    with api.state.store.read() as conn:
        rows = conn.exec_driver_sql("SELECT action FROM audit WHERE object_id = ? ORDER BY id", (made["id"],))
        assert [row.action for row in rows] == ["webhook.create", "webhook.rotate", "webhook.test"]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://hooks.corp/a", 201),
        ("http://10.1.2.3:8080/a", 201),
        ("http://127.0.0.9:8080/a", 201),
        ("http://10.2.0.1/a", 400),
        ("http://127.0.0.1:8080/a", 400),
        ("http://example.com/a", 400),
    ],
)
def test_plain_http_leads_only_where_the_operator_opened_it(
    client: httpx2.Client, url: str, status: int
) -> None:
    answer = client.post(WEBHOOKS, json={"url": url})
    assert answer.status_code == status, answer.text
    if status == 201:
        client.delete(f"{WEBHOOKS}/{answer.json()['id']}").raise_for_status()
