"""People sign in: a cookie for the browser alone, that ends, and that pages of other sites cannot use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_api.access import cookies
from runyard_api.access.sign_in_attempts import SignInAttempts
from runyard_api.http.call import reply
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.rules.sign_in_pauses import EMAIL_AND_NETWORK
from runyard_common.identity.service.logins import IDLE, LONGEST
from tests.api_server import Api
from tests.members import PASSWORD, browser, key, organisation, person, sign_in
from tests.problems import check_problem


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server on each database."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    with Api(tmp_path_factory.mktemp("api") / "home", url) as server:
        person(server, "ada@example.com", (server.state.org_id, Role.ADMIN))
        yield server


@pytest.fixture(autouse=True)
def no_earlier_tries(api: Api) -> None:
    """Sign-ins of other tests do not count."""
    api.state.sign_ins = SignInAttempts("")


@pytest.fixture
def anybody(api: Api) -> Iterator[httpx2.Client]:
    """A client without credentials, that keeps cookies."""
    with api.client("") as client:
        yield client


def login(client: httpx2.Client, email: str, password: str = PASSWORD, **headers: str) -> httpx2.Response:
    return client.post("/api/v1/login", json={"email": email, "password": password}, headers=headers)


def test_a_password_opens_and_signing_out_ends_it_wherever_the_cookie_was_copied_to(
    api: Api, anybody: httpx2.Client
) -> None:
    answer = login(anybody, " Ada@Example.com ")
    assert answer.status_code == 200, answer.text
    me = answer.json()
    assert me["person"]["email"] == "ada@example.com"
    assert (me["org_id"], me["role"]) == (api.state.org_id, "admin")
    assert [place["role"] for place in me["organisations"]] == ["admin"]
    cookie, device = answer.headers.get_list("set-cookie")
    for each in (cookie, device):
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(each.split("; "))
        assert "Secure" not in each  # plain http on loopback; see below for https

    assert anybody.get("/api/v1/me").json() == me
    assert anybody.get("/tasks").status_code == 200
    copied = {"cookie": cookie.partition(";")[0]}
    csrf = {"x-csrf-token": me["csrf_token"]}
    gone = anybody.post("/api/v1/logout", headers=csrf)
    assert (gone.status_code, "Max-Age=0" in gone.headers["set-cookie"]) == (204, True)
    with api.client("") as thief:
        check_problem(thief.get("/tasks", headers=copied), 401, "session_expired")


def test_only_the_tokens_hash_is_kept(api: Api, anybody: httpx2.Client) -> None:
    token = login(anybody, "ada@example.com").headers["set-cookie"].partition("=")[2].partition(";")[0]
    with api.state.store.read() as conn:
        rows: list[Any] = [tuple(row) for row in conn.execute(text("SELECT * FROM logins"))]
    assert rows
    assert token not in repr(rows)


def test_a_wrong_password_and_an_unknown_person_are_answered_alike(anybody: httpx2.Client) -> None:
    wrong = check_problem(login(anybody, "ada@example.com", "not the one"), 401, "wrong_password")
    unknown = check_problem(login(anybody, "eve@example.com", "not the one"), 401, "wrong_password")
    assert wrong["detail"] == unknown["detail"]
    assert "set-cookie" not in login(anybody, "ada@example.com", "").headers


def test_a_hash_of_an_earlier_cost_is_renewed_by_signing_in(api: Api, anybody: httpx2.Client) -> None:
    user_id = person(api, "old@example.com", (api.state.org_id, Role.VIEWER))
    for _ in range(2):
        assert login(anybody, "old@example.com").status_code == 200
        with api.state.store.read() as conn:
            query = text("SELECT password_hash FROM users WHERE id = :id")
            assert conn.execute(query, {"id": user_id}).scalar_one().startswith("scrypt$15$")


def test_addresses_that_a_caller_makes_up_count_for_nothing_without_a_trusted_proxy(
    api: Api, anybody: httpx2.Client
) -> None:
    person(api, "made-up@example.com", (api.state.org_id, Role.VIEWER))
    for n in range(EMAIL_AND_NETWORK.free):
        made_up = {"x-forwarded-for": f"203.0.113.{n}", "x-forwarded-proto": "https"}
        check_problem(login(anybody, "made-up@example.com", "a guess", **made_up), 401, "wrong_password")
    made_up = {"x-forwarded-for": "203.0.113.99", "x-forwarded-proto": "https"}
    check_problem(login(anybody, "made-up@example.com", **made_up), 429, "too_many_sign_ins")
    answer = login(anybody, "ada@example.com", **made_up)
    assert answer.status_code == 200
    assert "Secure" not in answer.headers["set-cookie"]


def test_a_sign_in_lasts_while_it_is_used_but_not_for_ever(api: Api) -> None:
    user_id = person(api, "idle@example.com", (api.state.org_id, Role.VIEWER))

    def age(column: str, seconds: float) -> None:
        with api.state.store.begin() as tx:
            query = text(f"UPDATE logins SET {column} = :at WHERE user_id = :id")
            tx.conn.execute(query, {"at": tx.now + seconds, "id": user_id})
        api.state.cookies.forget_all()

    def expires() -> float:
        with api.state.store.read() as conn:
            query = text("SELECT expires_at FROM logins WHERE user_id = :id")
            return float(conn.execute(query, {"id": user_id}).scalar_one()) - api.state.db.now(conn)

    with browser(api, user_id) as client:
        age("expires_at", 60)
        assert client.get("/api/v1/me").status_code == 200
        asyncio.run_coroutine_threadsafe(api.state._note_use(), api.state.loop).result(50)
        assert IDLE - 60 < expires() <= IDLE
        age("created_at", 120 - LONGEST)
        age("expires_at", 60)
        assert client.get("/api/v1/me").status_code == 200
        asyncio.run_coroutine_threadsafe(api.state._note_use(), api.state.loop).result(50)
        assert 60 < expires() <= 120
        age("expires_at", -1)
        check_problem(client.get("/api/v1/me"), 401, "session_expired")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"x-csrf-token": ""}, "X-CSRF-Token"),
        ({"x-csrf-token": "guessed"}, "X-CSRF-Token"),
        ({"origin": "https://evil.example"}, "Origin"),
        ({"origin": "null"}, "Origin"),
        ({"sec-fetch-site": "cross-site"}, "Sec-Fetch-Site"),
        ({"sec-fetch-site": "same-site"}, "Sec-Fetch-Site"),
    ],
)
def test_pages_of_other_sites_cannot_use_the_cookie(api: Api, headers: dict[str, str], field: str) -> None:
    user_id = person(api, f"{abs(hash(str(headers)))}@example.com", (api.state.org_id, Role.ADMIN))
    with browser(api, user_id) as client:
        refused = client.post("/api/v1/keys", json={"name": "stolen"}, headers=headers)
        check_problem(refused, 403, "csrf_refused", field)
        assert client.get("/api/v1/keys", headers=headers).status_code == 200
        own = {"origin": api.url, "sec-fetch-site": "same-origin"}
        assert client.post("/api/v1/keys", json={"name": "mine"}, headers=own).status_code == 201


def test_a_sign_in_is_not_forced_on_a_browser_by_another_site(anybody: httpx2.Client) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        check_problem(login(anybody, "ada@example.com", **headers), 403, "csrf_refused", next(
            name.title() for name in headers))  # fmt: skip


def test_a_key_in_the_header_counts_before_a_cookie_and_needs_no_csrf_token(api: Api) -> None:
    user_id = person(api, "both@example.com", (api.state.org_id, Role.VIEWER))
    with browser(api, user_id) as client:
        headers = {"authorization": f"Bearer {api.key}", "x-csrf-token": "", "origin": "https://evil.example"}
        assert client.post("/api/v1/keys", json={"name": "k"}, headers=headers).status_code == 201


def test_the_role_of_the_organisation_chosen_counts(api: Api) -> None:
    other = organisation(api)
    user_id = person(api, "two@example.com", (api.state.org_id, Role.VIEWER), (other, Role.ADMIN))
    with browser(api, user_id) as client:
        me = client.get("/api/v1/me").json()
        assert (me["org_id"], me["role"]) == (None, None)
        assert {place["id"] for place in me["organisations"]} == {api.state.org_id, other}
        check_problem(client.get("/tasks"), 400, "organisation_needed", "X-Org-Id")
        there = {"x-org-id": other}
        assert client.get("/api/v1/me", headers=there).json()["role"] == "admin"
        assert client.post("/api/v1/keys", json={"name": "k"}, headers=there).status_code == 201
        here = client.post("/api/v1/keys", json={"name": "k"}, headers={"x-org-id": api.state.org_id})
        check_problem(here, 403, "missing_permission")
        stranger = client.get("/tasks", headers={"x-org-id": organisation(api)})
        check_problem(stranger, 403, "not_a_member", "X-Org-Id")


def test_a_key_of_another_organisation_is_refused(api: Api) -> None:
    other = organisation(api)
    with api.client(key(api, other)) as client:
        assert client.get("/tasks", headers={"x-org-id": other}).status_code == 200
        refused = client.get("/tasks", headers={"x-org-id": api.state.org_id})
        check_problem(refused, 403, "wrong_organisation", "X-Org-Id")
        places = client.get("/api/v1/organisations").json()["data"]
        assert places == [{"id": other, "name": "other", "role": "admin"}]


def test_appstrate_takes_the_cookie_by_its_own_name_too_and_always_wants_the_organisation(api: Api) -> None:
    made = sign_in(api, person(api, "app@example.com", (api.state.org_id, Role.ADMIN)))
    org = {"x-org-id": api.state.org_id}
    csrf = {"x-csrf-token": made.csrf}
    with api.client("") as client:
        for name in ("better-auth.session_token", "runyard_session"):
            cookie = {"cookie": f"{name}={made.token}"}
            assert client.get("/api/applications", headers=cookie | org).status_code == 200
            bare = client.get("/api/applications", headers=cookie)
            assert (bare.status_code, bare.json()["code"], bare.json()["param"]) == (
                400, "invalid_request", "X-Org-Id",
            )  # fmt: skip
            other = client.get("/api/applications", headers=cookie | {"x-org-id": organisation(api)})
            assert (other.status_code, other.json()["code"]) == (403, "forbidden")
            shop = {"name": "shop"}
            wrong = {"x-csrf-token": "made up"}
            assert (
                client.post("/api/applications", headers=cookie | org | wrong, json=shop).status_code == 403
            )
            for proof in ({}, csrf):  # a header that no page of another site can send is proof enough
                made_one = client.post("/api/applications", headers=cookie | org | proof, json=shop)
                assert made_one.status_code == 201, made_one.text
            user = {"appstrate-user": "eu_x"}
            refused = client.get("/api/applications", headers=cookie | org | user)
            assert (refused.status_code, refused.json()["code"]) == (400, "header_not_allowed")
        with api.client(key(api, organisation(api))) as stranger:
            assert stranger.get("/api/applications", headers=org).status_code == 403


def test_nara_takes_an_admins_cookie_and_nugen_and_agentbase_know_none(api: Api) -> None:
    user_id = person(api, "plain@example.com", (api.state.org_id, Role.ADMIN))
    with browser(api, user_id) as client:
        assert client.get("/api/agent/run").status_code == 200
        for method, path in (("GET", "/api/v3/agents/"), ("POST", "/")):
            assert client.request(method, path, json={}).status_code == 401, path


def test_a_changed_password_ends_the_other_sign_ins(api: Api) -> None:
    user_id = person(api, "new@example.com", (api.state.org_id, Role.VIEWER))
    with browser(api, user_id) as here, browser(api, user_id) as elsewhere, api.client() as machine:
        path, change = "/api/v1/me/password", {"current": PASSWORD, "new": "another good one"}
        check_problem(machine.post(path, json=change), 403, "missing_permission")
        wrong = change | {"current": "not this"}
        check_problem(here.post(path, json=wrong), 401, "wrong_password", "current")
        check_problem(here.post(path, json=change | {"new": "short"}), 400, "weak_password", "new")
        assert here.post(path, json=change).status_code == 204
        assert here.get("/api/v1/me").status_code == 200
        check_problem(elsewhere.get("/api/v1/me"), 401, "session_expired")
        assert login(elsewhere, "new@example.com", "another good one").status_code == 200


def test_over_https_the_cookie_is_secure_and_bound_to_the_host(api: Api) -> None:
    response = reply({})
    assert cookies.is_https({"scheme": "https"}, api.settings)
    assert cookies.is_https(
        {"scheme": "http"}, api.settings.model_copy(update={"public_url": "https://r.example"})
    )
    cookies.set_cookie(response, "t", secure=True)
    (cookie,) = response.headers.getlist("set-cookie")
    assert cookie.startswith("__Host-runyard_session=t;")
    assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
