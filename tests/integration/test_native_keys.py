"""Keys, organisations and agents over the native API, on both databases."""

from __future__ import annotations

import httpx2
import pytest
from sqlalchemy import text

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.identity.queries import identity as identity_store
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity
from runyard_common.identity.service.identity import KeyRequest
from tests.api_server import Api
from tests.problems import check_problem

RUN = "/api/v1/agents/@test/echo/run"


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
