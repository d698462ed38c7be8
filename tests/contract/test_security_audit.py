"""The audit log: every operation that changes something is noted, with who did it, by which front, and to what."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_api.http.operations import Operation
from runyard_common.identity.rules.roles import Role
from tests import security
from tests.api_server import Api
from tests.members import browser, key, organisation, person
from tests.problems import check_problem
from tests.security import CHANGING, World, name_of

#: What changes nothing an organisation keeps, or is logged elsewhere: a run and its messages, in its own log.
NOT_NOTED = {
    "native.run", "nara.run_agent", "nugen.run_by_name", "nugen.run_by_id", "agentbase.run_agent",
    "appstrate.start_run", "native.send_message", "agentbase.index_document",
    "native.dry_run", "native.preview_schedule", "appstrate.test_endpoint", "agentbase.get_messages", "native.fork",
    # of a person, not of an organisation; see test_sign_in_pauses, test_sign_ins, test_second_factor, test_sign_on
    "native.logout", "native.change_password", "native.end_sign_in", "native.end_other_sign_ins",
    "native.enrol_second_factor", "native.confirm_second_factor", "native.renew_recovery_codes",
    "native.remove_second_factor", "native.begin_sign_on", "native.begin_link", "native.unlink",
}  # fmt: skip
#: Tried by itself below: it needs a run that an agent has brought so far.
ELSEWHERE = {
    "native.review", "native.make_link", "native.retry", "native.retry_many", "native.publish_draft",
    "native.redeliver", "native.redeliver_many", "native.replay", "native.cancel_many",
    "appstrate.delete_agent_runs", "appstrate.restore_package_version", "appstrate.create_package_version",
    "native.delete_tag", "native.enable_webhook", "native.create_organisation", "native.allot", "native.drain_worker",
    "native.resume_worker", "native.backfill_schedule",
}  # fmt: skip


#: They leave the world such that others could not be tried after them.
OWN_WORLD = {
    "native.cancel", "native.change_agent", "native.change_version", "native.clear", "native.disable_webhook",
    "native.update_webhook", "native.pause_schedule", "native.resume_schedule", "native.trigger_schedule",
    "nugen.change_agent", "appstrate.cancel_run", "appstrate.change_endpoint", "agentbase.clear_messages",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(api: Api) -> World:
    """The world of operations that leave it as others need it."""
    return security.populate(api, organisation(api))


def entries(client: httpx2.Client, **filters: str) -> list[dict[str, Any]]:
    """The audit log's first page."""
    answer = client.get("/api/v1/audit", params={"limit": "100"} | filters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


@pytest.mark.parametrize(
    "operation", [o for o in CHANGING if o.name not in NOT_NOTED | ELSEWHERE], ids=name_of
)
def test_every_change_is_noted(operation: Operation, api: Api, shared: World) -> None:
    own_world = operation.method == "DELETE" or operation.name in OWN_WORLD
    world = security.populate(api, organisation(api)) if own_world else shared
    with api.client(world.key) as client:
        prepare(world, operation, client)
        before = {entry["id"] for entry in entries(client)}
        answer = world.call(client, operation)
        assert answer.status_code < 300, answer.text
        new = [entry for entry in entries(client) if entry["id"] not in before]
        assert new, "nothing was noted"
        me = client.get("/api/v1/me").json()["actor"]
        assert {entry["actor"] for entry in new} == {me}
        assert {entry["front"] for entry in new} == {operation.front.name}
        assert all("." in entry["action"] and entry["object_id"] for entry in new)


def prepare(world: World, operation: Operation, client: httpx2.Client) -> None:
    """Bring the world to where the operation changes something."""
    if operation.name == "native.resume_schedule":
        client.post(f"/api/v1/schedules/{world.ids['schedule_id']}/pause").raise_for_status()
    if operation.name in ("nugen.delete_agent", "native.delete_agent", "native.delete_session"):
        client.post(f"/tasks/{world.ids['task_id']}/cancel").raise_for_status()


def test_the_rest_is_noted_too(api: Api) -> None:
    world = security.populate(api, organisation(api))
    ids = world.ids
    with api.client(world.key) as client:
        steps: list[tuple[str, str, Any, str]] = [
            ("post", "/tasks/cancel", {"filter": {"session_id": ids["session_id"]}}, "task.stop"),
            ("post", f"/tasks/{ids['task_id']}/retry", {}, "task.retry"),
            ("put", f"/api/v1/agents/{ids['agent']}/tags/stable", {"version": "1.0.0"}, "agent.tag"),
            ("delete", f"/api/v1/agents/{ids['agent']}/tags/stable", None, "agent.untag"),
            ("post", f"/api/v1/webhooks/{ids['webhook_id']}/disable", None, "webhook.disable"),
            ("post", f"/api/v1/webhooks/{ids['webhook_id']}/enable", None, "webhook.enable"),
        ]
        for method, path, body, action in steps:
            client.request(method, path, json=body).raise_for_status()
            assert entries(client)[0]["action"] == action
    with api.client() as operator:
        body = {"name": "noted", "owner_email": "noted@example.com"}
        made = operator.post("/api/v1/organisations", json=body).json()
        with api.client(key(api, made["id"])) as theirs:
            found = {entry["action"] for entry in entries(theirs)}
            assert found >= {"organisation.create", "member.invite"}
            allotted = operator.patch(f"/api/v1/ops/organisations/{made['id']}", json={"weight": 2})
            allotted.raise_for_status()
            assert entries(theirs)[0]["action"] == "organisation.allot"


def test_persons_tokens_and_keys_are_distinct(api: Api) -> None:
    org = organisation(api)
    user_id = person(api, "auditor@example.com", (org, Role.ADMIN))
    with browser(api, user_id) as client:
        client.post("/api/v1/limits", json={"kind": "session", "max_concurrent": 9}).raise_for_status()
        assert entries(client)[0]["actor"] == f"user:{user_id}"
        assert entries(client)[0]["front"] == "native"


def test_the_log_is_paged_and_filtered(api: Api) -> None:
    org = organisation(api)
    with api.client(key(api, org)) as client:
        for number in range(7):
            client.post("/api/applications", json={"name": f"a{number}"}).raise_for_status()
        limit = client.post("/api/v1/limits", json={"kind": "session", "max_concurrent": 9}).json()
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            chosen = {"limit": "3", "action": "application"} | cursor
            page = client.get("/api/v1/audit", params=chosen).json()
            seen += [entry["data"]["name"] for entry in page["data"]]
            if not page["has_more"]:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == [f"a{number}" for number in reversed(range(7))]
        assert {entry["front"] for entry in entries(client, front="appstrate")} == {"appstrate"}
        assert [entry["action"] for entry in entries(client, object_id=limit["id"])] == ["limit.save"]
        assert entries(client, action="limit.save") == entries(client, action="limit")
        assert entries(client, action="li") == []
        at = entries(client, action="limit")[0]["at"]
        assert entries(client, action="limit", since=at) != []
        assert entries(client, action="limit", until=at) == []
        assert entries(client, actor="key:unknown") == []
        check_problem(
            client.get("/api/v1/audit", params={"since": "yesterday"}), 400, "invalid_field", "since"
        )
    for role in (Role.MEMBER, Role.VIEWER):
        with api.client(key(api, org, role)) as client:
            check_problem(client.get("/api/v1/audit"), 403, "missing_permission")


def test_no_secret_is_noted(api: Api) -> None:
    world = security.populate(api, organisation(api))
    with api.client(world.key) as client:
        webhook = client.post("/api/v1/webhooks", json={"url": "https://u:pw@hooks.example.com/x?k=v"})
        made = client.post("/api/v1/keys", json={"name": "k"}).json()["key"]
        invitation = client.post("/api/v1/invitations", json={"email": "z@example.com"}).json()
        assert webhook.status_code in (201, 400)
    with api.state.store.read() as conn:
        whole = repr(conn.execute(text("SELECT * FROM audit")).all())
    for secret in (made, world.key, invitation["token"], "k=v"):
        assert secret not in whole
