"""The appstrate contract: keys, applications, end-users, schedules, webhooks, packages (sections 11 to 14)."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from tests.contract.appstrate import caller, ended, fresh, made, problem, publish, run_id, start
from tests.contract.live import Live

pytestmark = pytest.mark.timeout(300)

GIVES = "@default/gives"
PROFILE = "0b0e7f7e-8c1c-4b7e-9a54-0d6c4ab7c2f1"
NOWHERE = "https://example.com/hook"


def application(client: httpx2.Client, name: str = "shop") -> str:
    """The id of a new application."""
    answer = client.post("/api/applications", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


class TestKeys:
    def make(self, client: httpx2.Client, **more: Any) -> httpx2.Response:
        given = {"applicationId": application(client), "name": "ci"} | more
        return client.post("/api/api-keys", json=given)

    def test_a_key_is_ask_and_48_hex_and_shown_once(self, live: Live) -> None:
        with caller(live) as client:
            key = made(self.make(client))
            listed = client.get("/api/api-keys").json()["apiKeys"]

        assert re.fullmatch(r"ask_[0-9a-f]{48}", key["key"])
        assert key["key"].startswith(key["keyPrefix"])
        assert key["id"] in [row["id"] for row in listed]
        assert key["key"] not in str(listed)

    def test_omitted_scopes_are_all_the_creator_may_and_it_runs(self, live: Live) -> None:
        with caller(live) as client:
            key = made(self.make(client))
            available = client.get("/api/api-keys/available-scopes").json()["scopes"]
        with live.client(key["key"]) as client:
            assert start(client, GIVES).status_code == 200

        assert key["scopes"] == available
        assert {"agents:run", "runs:read", "webhooks:write"} <= set(available)

    def test_unknown_scopes_are_dropped_silently(self, live: Live) -> None:
        with caller(live) as client:
            key = made(self.make(client, scopes=["runs:read", "moon:fly", "keys:write"]))

        assert key["scopes"] == ["runs:read"]
        with live.client(key["key"]) as client:
            assert client.get("/api/runs").status_code == 200
            problem(start(client, GIVES), 403, "forbidden")

    def test_a_revoked_key_is_401_and_revoking_again_404(self, live: Live) -> None:
        with caller(live) as client:
            key = made(self.make(client))
            assert client.delete(f"/api/api-keys/{key['id']}").status_code == 204
            problem(client.delete(f"/api/api-keys/{key['id']}"), 404, "not_found")
        with live.client(key["key"]) as gone:
            problem(gone.get("/api/runs"), 401, "unauthorized")

    def test_a_past_expiry_is_400_and_an_unknown_application_404(self, live: Live) -> None:
        with caller(live) as client:
            problem(self.make(client, expiresAt="2020-01-01T00:00:00Z"), 400, "invalid_request")
            problem(self.make(client, applicationId="app_no"), 404, "not_found", "applicationId")
            problem(self.make(client, name=""), 400, "invalid_request", "name")

    @pytest.mark.parametrize("role", ["member", "viewer"])
    def test_only_administrators_make_keys(self, live: Live, role: str) -> None:
        with caller(live, role) as client:
            problem(client.post("/api/api-keys", json={}), 403, "forbidden")


class TestApplications:
    def test_there_is_one_default_and_it_stays(self, live: Live) -> None:
        with caller(live) as client:
            body = client.get("/api/applications").json()
            [default] = [row for row in body["data"] if row["isDefault"]]
            problem(client.delete(f"/api/applications/{default['id']}"), 400, "invalid_request")

        assert body["object"] == "list"
        assert default["id"].startswith("app_")

    def test_it_is_made_changed_and_deleted_with_its_keys(self, live: Live) -> None:
        with caller(live) as client:
            id_ = application(client)
            key = made(client.post("/api/api-keys", json={"applicationId": id_, "name": "k"}))["key"]
            assert made(client.patch(f"/api/applications/{id_}", json={"name": "new"}), 200)["name"] == "new"
            assert client.get(f"/api/applications/{id_}").json()["name"] == "new"
            assert client.delete(f"/api/applications/{id_}").status_code == 204
            problem(client.get(f"/api/applications/{id_}"), 404, "not_found")
        with live.client(key) as gone:
            problem(gone.get("/api/runs"), 401, "unauthorized")

    def test_a_name_has_1_to_100_characters(self, live: Live) -> None:
        with caller(live) as client:
            for name in ("", "x" * 101):
                problem(client.post("/api/applications", json={"name": name}), 400, "invalid_request", "name")


class TestEndUsers:
    def make(self, client: httpx2.Client, **more: Any) -> httpx2.Response:
        return client.post("/api/end-users", json=more)

    def test_it_is_made_read_merged_and_deleted(self, live: Live) -> None:
        with caller(live) as client:
            user = made(self.make(client, name="Ann", metadata={"a": 1, "b": "x"}))
            path = f"/api/end-users/{user['id']}"
            changed = made(client.patch(path, json={"metadata": {"b": None, "c": True}}), 200)
            assert client.delete(path).status_code == 204
            problem(client.get(path), 404, "not_found")

        assert user["id"].startswith("eu_")
        assert changed["metadata"] == {"a": 1, "c": True}
        assert changed["name"] == "Ann"

    def test_an_external_id_is_its_applications_once(self, live: Live) -> None:
        external = fresh("ext")
        with caller(live) as client:
            first = made(self.make(client, externalId=external))
            problem(self.make(client, externalId=external), 409, "external_id_taken", "externalId")
            made(self.make(client, externalId=external, applicationId=application(client)))
            found = client.get(f"/api/end-users?externalId={external}&applicationId={first['applicationId']}")

        assert [row["id"] for row in found.json()["data"]] == [first["id"]]

    def test_the_list_pages_both_ways(self, live: Live) -> None:
        with caller(live) as client:
            app = application(client)
            ids = [made(self.make(client, applicationId=app))["id"] for _ in range(3)][::-1]
            base = f"/api/end-users?limit=2&applicationId={app}"
            first = client.get(base).json()
            second = client.get(f"{base}&startingAfter={ids[1]}").json()
            back = client.get(f"{base}&endingBefore={ids[2]}").json()
            problem(client.get(f"{base}&startingAfter=a&endingBefore=b"), 400, "invalid_request")

        assert ([row["id"] for row in first["data"]], first["hasMore"], first["limit"]) == (ids[:2], True, 2)
        assert ([row["id"] for row in second["data"]], second["hasMore"]) == (ids[2:], False)
        assert [row["id"] for row in back["data"]] == ids[:2]

    @pytest.mark.parametrize(
        "metadata", [{f"k{i}": 1 for i in range(51)}, {"k" * 41: 1}, {"k": "v" * 501}, {"k": {}}]
    )
    def test_metadata_is_bounded(self, live: Live, metadata: Any) -> None:
        with caller(live) as client:
            problem(self.make(client, metadata=metadata), 400, "invalid_request", "metadata")

    def test_creating_honours_the_idempotency_key_and_the_limit(self, live: Live) -> None:
        with caller(live) as client:
            key = {"idempotency-key": fresh("eu")}
            one, two = (client.post("/api/end-users", json={"name": "A"}, headers=key) for _ in range(2))

        assert two.json() == one.json()
        assert two.headers["idempotent-replayed"] == "true"
        assert one.headers["ratelimit-policy"] == "60;w=60"

    def test_a_run_for_an_end_user_is_theirs_alone(self, live: Live) -> None:
        with caller(live) as client:
            one, two = (made(self.make(client))["id"] for _ in range(2))
            id_ = run_id(client, GIVES, {"value": 1}, headers={"appstrate-user": one})
            run = ended(client, id_)
            assert client.get(f"/api/runs/{id_}", headers={"appstrate-user": one}).status_code == 200
            problem(client.get(f"/api/runs/{id_}", headers={"appstrate-user": two}), 404, "not_found")
            listed = client.get("/api/runs", headers={"appstrate-user": one}).json()

        assert (run["endUserId"], run["userId"]) == (one, None)
        assert [r["id"] for r in listed["runs"]] == [id_]

    def test_a_key_of_another_application_may_not_act_for_them(self, live: Live) -> None:
        with caller(live) as client:
            user = made(self.make(client))["id"]
            given = {"applicationId": application(client), "name": "k"}
            key = made(client.post("/api/api-keys", json=given))["key"]
        with live.client(key) as stranger:
            problem(start(stranger, GIVES, headers={"appstrate-user": user}), 403, "invalid_end_user")
            problem(stranger.get(f"/api/end-users/{user}"), 404, "not_found")


class TestSchedules:
    def make(self, client: httpx2.Client, package: str = GIVES, **more: Any) -> httpx2.Response:
        given = {"connectionProfileId": PROFILE, "cronExpression": "0 9 * * 1"} | more
        return client.post(f"/api/agents/{package}/schedules", json=given)

    def test_it_is_made_listed_changed_disabled_and_deleted(self, live: Live) -> None:
        with caller(live) as client:
            package = publish(client)
            answer = self.make(client, package, name="weekly", timezone="Europe/Paris", input={"n": 1})
            schedule = made(answer)
            path = f"/api/schedules/{schedule['id']}"
            assert [s["id"] for s in client.get(f"/api/agents/{package}/schedules").json()] == [
                schedule["id"]
            ]
            assert schedule["id"] in [s["id"] for s in client.get("/api/schedules").json()]
            change = {"enabled": False, "cronExpression": "30 8 * * *", "input": {"n": 2}}
            changed = made(client.put(path, json=change), 200)
            assert client.get(path).json() == changed
            enabled = made(client.put(path, json={"enabled": True}), 200)
            assert client.get(f"{path}/runs").json() == {"runs": [], "total": 0}
            assert made(client.delete(path), 200) == {"ok": True}
            problem(client.get(path), 404, "not_found")

        assert re.fullmatch(r"sched_[0-9a-f-]{36}", schedule["id"])
        assert answer.headers["ratelimit-policy"] == "10;w=60"
        assert (schedule["packageId"], schedule["name"], schedule["timezone"]) == (
            package,
            "weekly",
            "Europe/Paris",
        )
        assert (schedule["connectionProfileId"], schedule["input"]) == (PROFILE, {"n": 1})
        assert schedule["enabled"]
        assert schedule["nextRunAt"]
        assert schedule["readiness"]["status"] == "ready"
        assert (changed["enabled"], changed["nextRunAt"]) == (False, None)
        assert (changed["cronExpression"], changed["input"]) == ("30 8 * * *", {"n": 2})
        assert enabled["nextRunAt"]

    @pytest.mark.parametrize(
        ("more", "param"),
        [
            ({"cronExpression": "often"}, "cronExpression"),
            ({"cronExpression": "2030-01-01T00:00:00Z"}, "cronExpression"),
            ({"cronExpression": "60"}, "cronExpression"),
            ({"timezone": "Mars/Base"}, "timezone"),
            ({"connectionProfileId": "me"}, "connectionProfileId"),
        ],
    )
    def test_a_bad_field_is_400_and_named(self, live: Live, more: Any, param: str) -> None:
        with caller(live) as client:
            problem(self.make(client, **more), 400, "invalid_request", param)

    def test_input_is_judged_and_agents_with_files_refused(self, live: Live) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        file = {"type": "string", "format": "uri", "contentMediaType": "text/plain"}
        with caller(live) as client:
            problem(self.make(client, publish(client, schema)), 400, "invalid_request", "n")
            with_file = publish(client, {"type": "object", "properties": {"doc": file}})
            problem(self.make(client, with_file), 400, "invalid_request", "input")


class TestWebhooks:
    def make(self, client: httpx2.Client, **more: Any) -> httpx2.Response:
        given = {"url": NOWHERE, "events": ["run.completed"], "scope": "organization"} | more
        return client.post("/api/webhooks", json=given)

    def test_it_is_made_with_a_secret_shown_once_and_rotated(self, live: Live) -> None:
        with caller(live) as client:
            answer = self.make(client)
            hook = made(answer)
            path = f"/api/webhooks/{hook['id']}"
            read = client.get(path).json()
            rotated = made(client.post(f"{path}/rotate"), 200)
            assert client.delete(path).status_code == 204
            problem(client.get(path), 404, "not_found")

        assert hook["id"].startswith("wh_")
        assert hook["secret"].startswith("whsec_")
        assert hook["secret"] != rotated["secret"]
        assert rotated["secret"].startswith("whsec_")
        assert read == {name: value for name, value in hook.items() if name != "secret"}
        assert (read["object"], read["payloadMode"], read["active"]) == ("webhook", "full", True)
        assert answer.headers["ratelimit-policy"] == "10;w=60"

    def test_it_is_changed_and_listed_by_scope_and_application(self, live: Live) -> None:
        with caller(live) as client:
            app = application(client)
            package = publish(client)
            hook = made(self.make(client, scope="application", applicationId=app, packageId=package))
            change = {"events": ["run.failed", "run.timeout"], "payloadMode": "summary", "active": False}
            changed = made(client.put(f"/api/webhooks/{hook['id']}", json=change), 200)
            listed = client.get(f"/api/webhooks?applicationId={app}&scope=application").json()
            none = client.get(f"/api/webhooks?applicationId={app}&scope=organization").json()
            client.delete(f"/api/webhooks/{hook['id']}")

        assert (hook["scope"], hook["applicationId"], hook["packageId"]) == ("application", app, package)
        assert (changed["events"], changed["payloadMode"], changed["active"]) == (*list(change.values()),)
        assert listed == {"object": "list", "data": [changed]}
        assert none["data"] == []

    def test_a_test_event_is_built_and_not_delivered(self, live: Live) -> None:
        with caller(live) as client:
            id_ = made(self.make(client))["id"]
            event = made(client.post(f"/api/webhooks/{id_}/test"), 200)
            log = client.get(f"/api/webhooks/{id_}/deliveries").json()
            client.delete(f"/api/webhooks/{id_}")

        assert event["eventId"].startswith("evt_")
        assert event["payload"]["type"] == "test.ping"
        assert log == {"object": "list", "data": []}

    @pytest.mark.parametrize(
        ("more", "param"),
        [
            ({"url": "ftp://example.com"}, "url"),
            ({"events": []}, "events"),
            ({"events": ["run.exploded"]}, "events[0]"),
            ({"scope": "application"}, "applicationId"),
            ({"payloadMode": "tiny"}, "payloadMode"),
        ],
    )
    def test_a_bad_field_is_400_and_named(self, live: Live, more: Any, param: str) -> None:
        with caller(live) as client:
            problem(self.make(client, **more), 400, "invalid_request", param)

    def test_the_21st_of_an_organisation_is_400(self, live: Live) -> None:
        _, first = live.new_organisation()
        with live.client(first) as client:
            app = application(client)
            keys = [
                made(client.post("/api/api-keys", json={"applicationId": app, "name": "k"}))["key"]
                for _ in "123"
            ]
        answers = []
        for key in keys:
            with live.client(key) as client:
                answers += [self.make(client) for _ in range(7)]

        assert [answer.status_code for answer in answers[:20]] == [201] * 20
        problem(answers[20], 400, "webhook_limit_reached")
