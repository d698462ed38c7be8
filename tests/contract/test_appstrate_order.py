"""The appstrate contract: in which order a request is judged, by whose credentials, and what every answer carries."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from runyard_common.identity.rules.roles import Role
from tests.api_server import Api
from tests.contract.appstrate import REQUEST_ID, problem, publish, run_id, start
from tests.members import key, organisation, person, sign_in

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
UNKNOWN = "@no/body"
LATER = "2030-01-01"


@pytest.fixture(scope="module")
def cookie(api: Api) -> dict[str, str]:
    """The headers of a signed-in person."""
    made = sign_in(api, person(api, "order@example.com", (api.state.org_id, Role.ADMIN)))
    return {"cookie": f"better-auth.session_token={made.token}", "x-org-id": api.state.org_id}


class TestCredentials:
    @pytest.mark.parametrize("header", ["Basic YTpi", "Bearer nothing-of-ours", "Bearer", "?"])
    def test_what_is_no_key_falls_to_the_cookie(self, api: Api, cookie: dict[str, str], header: str) -> None:
        with api.client("") as anonymous:
            answer = anonymous.get("/api/runs", headers=cookie | {"authorization": header})
            assert answer.status_code == 200, answer.text
            problem(anonymous.get("/api/runs", headers={"authorization": header}), 401, "unauthorized")

    def test_a_cookie_and_the_organisation_change_things_and_nothing_else_is_needed(
        self, api: Api, cookie: dict[str, str], client: httpx2.Client
    ) -> None:
        package = publish(client)
        with api.client("") as browser:
            answer = start(browser, package, headers=cookie)

        assert answer.status_code == 200, answer.text
        assert answer.json()["runId"]

    def test_a_cookie_without_the_organisation_is_400_also_where_it_would_change_things(
        self, api: Api, cookie: dict[str, str], client: httpx2.Client
    ) -> None:
        package, cookie_only = publish(client), {"cookie": cookie["cookie"]}
        with api.client("") as browser:
            for answer in (
                start(browser, package, headers=cookie_only),
                browser.get("/api/runs", headers=cookie_only),
            ):
                problem(answer, 400, "invalid_request", "X-Org-Id")

    @pytest.mark.parametrize(
        "given",
        [
            {"origin": "https://evil.example"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"x-csrf-token": "another's"},
        ],
    )
    def test_a_cookie_from_another_site_is_refused_for_every_name(
        self, api: Api, cookie: dict[str, str], client: httpx2.Client, given: dict[str, str]
    ) -> None:
        package = publish(client)
        with api.client("") as browser:
            problem(start(browser, package, headers=cookie | given), 403, "forbidden")

    def test_a_bad_key_is_401_with_any_cookie(self, api: Api, cookie: dict[str, str]) -> None:
        with api.client("") as anonymous:
            for bad in ("ask_" + "0" * 48, "ry_" + "0" * 48):
                answer = anonymous.get("/api/runs", headers=cookie | {"authorization": f"Bearer {bad}"})
                problem(answer, 401, "unauthorized")

    def test_the_key_names_the_organisation_and_goes_before_the_cookie(
        self, api: Api, cookie: dict[str, str]
    ) -> None:
        other = organisation(api)
        with api.client(key(api, other)) as client:
            only = {"cookie": cookie["cookie"]}
            assert client.get("/api/applications", headers=only).json()["data"][0]["orgId"] == other


class TestOrder:
    def test_credentials_come_before_the_version_header(self, api: Api) -> None:
        with api.client("") as anonymous:
            problem(start(anonymous, UNKNOWN, headers={"appstrate-version": LATER}), 401, "unauthorized")

    def test_the_version_header_comes_before_the_end_user_and_the_count(self, client: httpx2.Client) -> None:
        wrong = {"appstrate-version": LATER, "appstrate-user": "missing", "idempotency-key": "x" * 256}
        refused = start(client, UNKNOWN, headers=wrong)
        problem(refused, 400, "unsupported_api_version")
        assert "ratelimit" not in refused.headers

    def test_the_count_comes_before_the_idempotency_key_and_that_before_the_agent(
        self, client: httpx2.Client
    ) -> None:
        over = {"idempotency-key": "x" * 256}
        for left in (19, 18):
            refused = start(client, UNKNOWN, headers=over)
            problem(refused, 400, "invalid_idempotency_key")
            assert f"remaining={left}" in refused.headers["ratelimit"]

    def test_a_429_takes_no_key_and_a_replay_is_counted(self, client: httpx2.Client) -> None:
        package, kept = publish(client), {"idempotency-key": "order-kept"}
        first = start(client, package, headers=kept)
        for _ in range(19):
            assert start(client, package, headers=kept).headers["idempotent-replayed"] == "true"
        problem(start(client, package, headers=kept), 429, "rate_limited")
        problem(start(client, package, headers={"idempotency-key": "order-new"}), 429, "rate_limited")
        elsewhere = start(client, publish(client), {"other": 1}, headers={"idempotency-key": "order-new"})
        assert elsewhere.status_code == 200  # it was unused
        assert first.status_code == 200

    def test_the_permission_comes_before_the_version_query(self, api: Api, client: httpx2.Client) -> None:
        package = publish(client)
        with api.client(key(api, api.state.org_id, Role.VIEWER)) as viewer:
            problem(viewer.post(f"/api/agents/{package}/run?version=9.9.9"), 403, "forbidden")

    def test_the_version_query_comes_before_the_input_and_readiness(self, client: httpx2.Client) -> None:
        package = publish(client, NUMBER, instructions=" ")
        problem(client.post(f"/api/agents/{package}/run?version=9.9.9", json={}), 404, "not_found")
        problem(client.post(f"/api/agents/{package}/run?version=1.0.0", json={}), 400, "invalid_request", "n")
        problem(start(client, package, {"n": 1}), 400, "empty_prompt")

    def test_a_stopping_server_takes_no_post_and_reads_on(self, api: Api, client: httpx2.Client) -> None:
        api.state.stopping.set()
        try:
            refused = start(client, UNKNOWN)
            body = problem(refused, 503, "shutting_down")
            assert refused.headers["retry-after"] == str(body["retryAfter"])
            assert client.get("/api/runs").status_code == 200
        finally:
            api.state.stopping.clear()


class TestEveryAnswer:
    @pytest.mark.parametrize(
        ("method", "path", "limit"),
        [
            ("POST", "/api/agents/@no/body/run", 20),
            ("POST", "/api/agents/@no/body/schedules", 10),
            ("POST", "/api/end-users", 60),
            ("PATCH", "/api/end-users/eu_no", 60),
            ("DELETE", "/api/end-users/eu_no", 60),
            ("GET", "/api/end-users", 300),
            ("GET", "/api/end-users/eu_no", 300),
            ("POST", "/api/webhooks", 10),
            ("PUT", "/api/webhooks/wh_no", 10),
            ("DELETE", "/api/webhooks/wh_no", 10),
            ("POST", "/api/webhooks/wh_no/test", 5),
            ("POST", "/api/webhooks/wh_no/rotate", 5),
            ("GET", "/api/webhooks", 300),
            ("GET", "/api/webhooks/wh_no", 300),
            ("GET", "/api/webhooks/wh_no/deliveries", 300),
        ],
    )
    def test_a_limited_route_shows_its_limit_in_every_answer_a_403_too(
        self, api: Api, client: httpx2.Client, method: str, path: str, limit: int
    ) -> None:
        given: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": {}}
        with api.client(key(api, api.state.org_id, Role.MEMBER, ["runs:read"])) as weak:
            answers = [client.request(method, path, **given), weak.request(method, path, **given)]
        for answer in answers:
            assert answer.headers["ratelimit-policy"] == f"{limit};w=60"
            assert answer.headers["ratelimit"].startswith(f"limit={limit}, remaining={limit - 1}, reset=")
        if "/agents/" not in path:
            problem(answers[1], 403, "forbidden")

    def test_people_are_counted_by_who_they_are_not_by_their_sign_in(self, api: Api) -> None:
        user_id = person(api, "counted@example.com", (api.state.org_id, Role.ADMIN))
        seen = []
        for _ in range(2):
            cookie = f"better-auth.session_token={sign_in(api, user_id).token}"
            with api.client("") as browser:
                headers = {"cookie": cookie, "x-org-id": api.state.org_id}
                seen.append(browser.get("/api/webhooks", headers=headers).headers["ratelimit"])
        assert ["remaining=299" in seen[0], "remaining=298" in seen[1]] == [True, True]

    @pytest.mark.parametrize("path", ["/api/nothing", "/api/runs/exec_no", "/health", "/api/openapi.json"])
    def test_every_answer_has_a_request_id(self, api: Api, path: str) -> None:
        with api.client("") as anonymous:
            assert REQUEST_ID.fullmatch(anonymous.get(path).headers["request-id"])

    def test_the_key_of_a_replay_is_the_organisations_not_the_routes(self, client: httpx2.Client) -> None:
        kept = {"idempotency-key": "any-route"}
        made = client.post("/api/end-users", json={}, headers=kept)
        # bare: the document of this route has no end-users
        run = httpx2.post(
            client.base_url.join(f"/api/agents/{UNKNOWN}/run"), json={}, headers=client.headers | kept
        )
        assert made.status_code == run.status_code == 201
        assert run.headers["idempotent-replayed"] == "true"
        assert run.json() == made.json()

    def test_a_hook_is_made_once_by_one_key_and_its_secret_shown_again(self, client: httpx2.Client) -> None:
        kept = {"idempotency-key": "one-hook"}
        given = {"url": "https://example.com/h", "events": ["run.failed"], "scope": "organization"}
        one, two = (client.post("/api/webhooks", json=given, headers=kept) for _ in range(2))
        listed = client.get("/api/webhooks").json()["data"]
        client.delete(f"/api/webhooks/{one.json()['id']}")
        assert two.json() == one.json()
        assert [hook["id"] for hook in listed].count(one.json()["id"]) == len(listed) == 1

    def test_only_some_routes_heed_a_key(self, client: httpx2.Client) -> None:
        kept = {"idempotency-key": "heedless"}
        ids = {
            client.post("/api/applications", json={"name": "a"}, headers=kept).json()["id"] for _ in range(2)
        }
        assert len(ids) == 2
        assert run_id(client, publish(client), headers=kept)  # it is unused
