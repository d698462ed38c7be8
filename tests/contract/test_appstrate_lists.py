"""The appstrate contract: what lists hold by default, which parts each caller sees, and keys (sections 9 and 13)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_common.identity.rules.roles import Role
from tests.api_server import Api
from tests.contract.appstrate import fresh, made, problem, publish, run_id
from tests.members import key, organisation, person, sign_in


def ids(answer: httpx2.Response) -> list[str]:
    """The ids of a page of runs."""
    return [run["id"] for run in made(answer, 200)["runs"]]


class TestRuns:
    def test_an_agents_list_has_50_by_default_and_the_others_20(self, client: httpx2.Client) -> None:
        package = publish(client)
        for _ in range(51):
            client.post(f"/api/v1/agents/{package}/run", json={"query": "hi"}).raise_for_status()
        for wrong in ("", "?limit=0", "?limit=101", "?limit=-1", "?limit=many", "?limit=1.5", "?offset=-3"):
            page = client.get(f"/api/agents/{package}/runs{wrong}").json()
            assert (len(page["runs"]), page["total"]) == (50, 51), wrong
            assert len(client.get(f"/api/runs?user=me{wrong.replace('?', '&')}").json()["runs"]) == 20, wrong
        assert len(ids(client.get(f"/api/agents/{package}/runs?limit=100"))) == 51
        assert len(ids(client.get(f"/api/agents/{package}/runs?limit=100&offset=50"))) == 1
        newest = client.get(f"/api/agents/{package}/runs?limit=100").json()["runs"]
        assert [run["startedAt"] for run in newest] == sorted((r["startedAt"] for r in newest), reverse=True)
        assert [run["runNumber"] for run in newest] == list(range(51, 0, -1))

    def test_a_page_of_large_runs_ends_early_and_the_next_goes_on_behind_it(
        self, client: httpx2.Client
    ) -> None:
        package = publish(client)
        for _ in range(5):
            body = {"query": "hi", "metadata": {}, "args": {"text": "x" * 4_000_000}}
            client.post(f"/api/v1/agents/{package}/run", json=body).raise_for_status()
        whole: list[str] = []
        while True:
            answer = client.get(f"/api/agents/{package}/runs?limit=100&offset={len(whole)}")
            if not ids(answer):
                break
            assert len(answer.content) < 9_000_000
            whole += ids(answer)
        assert len(whole) == len(set(whole)) == answer.json()["total"] == 5

    def test_an_end_user_sees_its_own_runs_alone_and_cancels_no_others(self, client: httpx2.Client) -> None:
        package = publish(client)
        one, two = (made(client.post("/api/end-users", json={}))["id"] for _ in range(2))
        mine = run_id(client, package, headers={"appstrate-user": one})
        run_id(client, package, headers={"appstrate-user": two})
        run_id(client, package)
        as_one, as_two = {"appstrate-user": one}, {"appstrate-user": two}
        for path in ("/api/runs", "/api/runs?user=me", f"/api/agents/{package}/runs"):
            page = client.get(path, headers=as_one).json()
            assert ([run["id"] for run in page["runs"]], page["total"]) == ([mine], 1), path
        problem(client.get(f"/api/runs/{mine}/logs", headers=as_two), 404, "not_found")
        problem(client.post(f"/api/runs/{mine}/cancel", headers=as_two), 404, "not_found")
        assert client.post(f"/api/runs/{mine}/cancel", headers=as_one).json() == {"ok": True}

    def test_a_run_names_the_application_of_its_key_and_a_person_that_started_it(
        self, api: Api, client: httpx2.Client
    ) -> None:
        package = publish(client)
        user_id = person(api, "starter@example.com", (api.state.org_id, Role.ADMIN))
        signed = sign_in(api, user_id)
        with api.client("") as browser:
            browser.headers.update({
                "cookie": f"better-auth.session_token={signed.token}", "x-csrf-token": signed.csrf,
                "x-org-id": api.state.org_id,
            })  # fmt: skip
            by_person = browser.get(f"/api/runs/{run_id(browser, package)}").json()
            application = made(browser.post("/api/applications", json={"name": "shop"}))["id"]
            own = made(browser.post("/api/api-keys", json={"applicationId": application, "name": "k"}))
        with api.client(own["key"]) as keyed:
            by_key = keyed.get(f"/api/runs/{run_id(keyed, package)}").json()
        assert (by_person["userId"], by_person["applicationId"]) == (user_id, None)
        assert (by_key["userId"], by_key["applicationId"]) == (own["id"], application)

    def test_deleting_runs_wants_the_permission_and_goes_on_counting_from_what_is_left(
        self, api: Api, client: httpx2.Client
    ) -> None:
        package = publish(client)
        id_ = run_id(client, package)
        with api.client(key(api, api.state.org_id, Role.MEMBER)) as member:
            problem(member.delete(f"/api/agents/{package}/runs"), 403, "forbidden")
        problem(client.delete(f"/api/agents/{package}/runs"), 409, "run_in_progress")
        client.post(f"/api/runs/{id_}/cancel")
        assert client.delete(f"/api/agents/{package}/runs").json() == {"deleted": 1}
        assert client.delete(f"/api/agents/{package}/runs").json() == {"deleted": 0}
        problem(client.delete("/api/agents/@no/body/runs"), 404, "agent_not_found")


class TestAgents:
    def test_an_agent_is_listed_with_every_field_and_its_runs_under_way(self, client: httpx2.Client) -> None:
        package = publish(client, keywords=["a", "b"], display_name="Mine", description="Does it.")
        run_id(client, package)
        [listed] = [a for a in client.get("/api/agents").json()["agents"] if a["id"] == package]
        assert listed == {
            "id": package, "displayName": "Mine", "description": "Does it.", "source": "local",
            "scope": "@appstrate", "version": "1.0.0", "type": "agent", "keywords": ["a", "b"], "runningRuns": 1,
            "dependencies": {},
        }  # fmt: skip


class TestEndUsers:
    def test_the_limit_is_20_and_out_of_range_ones_fall_to_it(self, api: Api) -> None:
        with api.client(key(api, organisation(api, fresh("many")))) as client:
            for _ in range(21):
                made(client.post("/api/end-users", json={}))
            for wrong in ("", "?limit=0", "?limit=101", "?limit=x"):
                page = client.get(f"/api/end-users{wrong}").json()
                assert (len(page["data"]), page["limit"], page["hasMore"]) == (20, 20, True)
            assert len(client.get("/api/end-users?limit=100").json()["data"]) == 21

    def test_they_are_found_by_email_and_by_their_application(self, client: httpx2.Client) -> None:
        email = f"{fresh('a')}@example.com"
        user = made(client.post("/api/end-users", json={"email": email}))
        made(client.post("/api/end-users", json={"email": f"x{email}"}))
        assert [row["id"] for row in client.get(f"/api/end-users?email={email}").json()["data"]] == [
            user["id"]
        ]
        assert client.get("/api/end-users?applicationId=app_no").json()["data"] == []

    def test_a_key_of_an_application_may_name_no_other(self, client: httpx2.Client) -> None:
        one, two = (made(client.post("/api/applications", json={"name": "a"}))["id"] for _ in range(2))
        own = made(client.post("/api/api-keys", json={"applicationId": one, "name": "k"}))["key"]
        headers = {"authorization": f"Bearer {own}"}
        assert made(client.post("/api/end-users", json={}, headers=headers))["applicationId"] == one
        refused = [
            client.post("/api/end-users", json={"applicationId": two}, headers=headers),
            client.get(f"/api/end-users?applicationId={two}", headers=headers),
        ]
        for answer in refused:
            problem(answer, 403, "scope_mismatch", "applicationId")

    @pytest.mark.parametrize(
        "metadata", [{f"k{i}": "v" for i in range(50)}, {"k" * 40: "v" * 500}, {"a": 1, "b": True, "c": 0.5}]
    )
    def test_metadata_up_to_its_bounds_is_kept(self, client: httpx2.Client, metadata: Any) -> None:
        user = made(client.post("/api/end-users", json={"metadata": metadata}))
        assert user["metadata"] == metadata

    def test_without_its_end_user_a_run_stays(self, client: httpx2.Client) -> None:
        user = made(client.post("/api/end-users", json={}))["id"]
        id_ = run_id(client, publish(client), headers={"appstrate-user": user})
        assert client.delete(f"/api/end-users/{user}").status_code == 204
        assert client.get(f"/api/runs/{id_}").json()["endUserId"] == user
        problem(client.get("/api/runs", headers={"appstrate-user": user}), 403, "invalid_end_user")


class TestKeys:
    def key(self, client: httpx2.Client, **more: Any) -> dict[str, Any]:
        application = client.get("/api/applications").json()["data"][0]["id"]
        return made(client.post("/api/api-keys", json={"applicationId": application, "name": "k"} | more))

    def test_an_expired_key_is_listed_no_more_and_opens_nothing(
        self, api: Api, client: httpx2.Client
    ) -> None:
        expires = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat()
        own = self.key(client, expiresAt=expires)
        assert own.keys() == {"id", "key", "keyPrefix", "scopes"}
        assert own["id"] in [row["id"] for row in client.get("/api/api-keys").json()["apiKeys"]]
        with api.state.store.begin() as tx:
            past = {"at": time.time() - 1, "id": own["id"]}
            tx.conn.execute(text("UPDATE api_keys SET expires_at = :at WHERE id = :id"), past)
        assert own["id"] not in [row["id"] for row in client.get("/api/api-keys").json()["apiKeys"]]
        with api.client(own["key"]) as late:
            problem(late.get("/api/runs"), 401, "unauthorized")

    def test_a_key_may_what_its_scopes_and_its_makers_present_role_both_allow(self, api: Api) -> None:
        user_id = person(api, "demoted@example.com", (api.state.org_id, Role.ADMIN))
        signed = sign_in(api, user_id)
        headers = {
            "cookie": f"better-auth.session_token={signed.token}", "x-csrf-token": signed.csrf,
            "x-org-id": api.state.org_id,
        }  # fmt: skip
        with api.client("") as browser:
            browser.headers.update(headers)
            own = self.key(browser, scopes=["runs:read", "webhooks:write"])
        with api.client(own["key"]) as client:
            assert client.get("/api/runs").status_code == 200
            problem(client.get("/api/webhooks"), 403, "forbidden")  # not among its scopes
            problem(client.post("/api/webhooks", json={}), 400, "invalid_request")
            with api.state.store.begin() as tx:
                demote = text("UPDATE members SET role = 'viewer' WHERE user_id = :id")
                assert tx.conn.execute(demote, {"id": user_id}).rowcount == 1
            api.state.forget_callers()
            assert client.get("/api/runs").status_code == 200
            problem(client.post("/api/webhooks", json={}), 403, "forbidden")  # no longer its maker's

    def test_the_scopes_are_those_of_the_contract_that_mean_something_here(
        self, client: httpx2.Client
    ) -> None:
        scopes = client.get("/api/api-keys/available-scopes").json()["scopes"]
        crud = ("read", "write", "delete")
        assert scopes == [
            *(f"agents:{action}" for action in ("read", "write", "configure", "delete", "run")),
            *(f"{of}:{action}" for of in ("applications", "end-users", "webhooks", "schedules") for action in crud),
            "runs:read", "runs:cancel", "runs:delete",
        ]  # fmt: skip


class TestWebhooks:
    def test_an_applications_webhook_hears_of_its_own_keys_runs_alone(
        self, api: Api, client: httpx2.Client
    ) -> None:
        application = made(client.post("/api/applications", json={"name": "shop"}))["id"]
        own = made(client.post("/api/api-keys", json={"applicationId": application, "name": "k"}))["key"]
        given = {"url": "https://example.com/h", "events": ["run.cancelled"], "applicationId": application}
        first = made(client.post("/api/webhooks", json=given))
        every = made(client.post("/api/webhooks", json=given | {"scope": "organization"}))
        package = publish(client)
        with api.client(own) as mine:
            for caller in (client, mine):
                caller.post(f"/api/runs/{run_id(caller, package)}/cancel")
        paths = [f"/api/webhooks/{hook['id']}" for hook in (first, every)]
        heard, all_heard = (client.get(f"{path}/deliveries").json()["data"] for path in paths)
        one = client.get(f"{paths[1]}/deliveries?limit=1").json()["data"]
        for path in paths:
            client.delete(path)

        assert first["scope"] == "application"  # by default
        assert (every["scope"], every["applicationId"]) == ("organization", None)
        assert (len(heard), len(all_heard), len(one)) == (1, 2, 1)
        events = [row["eventId"] for row in (*heard, *all_heard)]
        assert len(set(events)) == 3  # one event object for each webhook
        assert all(event.startswith("evt_") for event in events)

    def test_a_webhook_has_every_field_of_the_contract(self, client: httpx2.Client) -> None:
        given = {"url": "https://example.com/h", "events": ["run.failed"], "scope": "organization"}
        hook = made(client.post("/api/webhooks", json=given))
        client.delete(f"/api/webhooks/{hook['id']}")
        assert hook.keys() == {
            "id", "object", "url", "events", "scope", "applicationId", "packageId", "payloadMode", "active",
            "createdAt", "updatedAt", "secret",
        }  # fmt: skip
