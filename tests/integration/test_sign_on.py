"""Single sign-on with a real provider process: whom it lets in, and which account it opens."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from sqlalchemy import text

from runyard_api.access.oidc_provider import OidcProvider
from runyard_common.identity.rules.roles import Role
from tests.api_server import Api
from tests.fakes.oidc_provider import provider
from tests.members import PASSWORD, browser, key, organisation, person
from tests.problems import check_problem

BEGIN = "/api/v1/login/oidc"
CLIENT = "runyard-of-the-test"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """A provider."""
    with provider() as found:
        yield found


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issuer: str
) -> Iterator[Api]:
    """A server that knows the provider, on each database."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    settings = {"oidc_issuer": issuer, "oidc_client_id": CLIENT, "oidc_client_secret": "a secret"}
    home = tmp_path_factory.mktemp("api") / "home"
    with Api(home, url, **settings, oidc_allowed_domains="example.com,shop.example") as server:
        yield server


@pytest.fixture(autouse=True)
def strict_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of the settings in place of another test's; callbacks lead to this server's port."""
    monkeypatch.setattr(api.state, "settings", api.settings.model_copy(update={"public_url": api.url}))
    api.state.sign_on = OidcProvider.of(api.settings)


@pytest.fixture
def anybody(api: Api) -> Iterator[httpx2.Client]:
    """A browser: it keeps cookies, and follows no redirect by itself."""
    with api.client("") as client:
        yield client


def knows(issuer: str, subject: str, email: str, verified: bool = True, **claims: object) -> str:
    """The provider has a subject with these claims; the subject."""
    known = {"email": email, "email_verified": verified, "name": subject.title()} | claims
    assert httpx2.put(f"{issuer}/users/{subject}", json=known).is_success
    return subject


def consent(url: str, subject: str) -> str:
    """The person signs in at the provider; where it sends the browser back to."""
    answer = httpx2.post(url, data={"sub": subject})
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


def sign_on(client: httpx2.Client, subject: str, **body: str) -> httpx2.Response:
    begun = client.post(BEGIN, json=body)
    assert begun.status_code == 200, begun.text
    return client.get(consent(begun.json()["url"], subject))


def outcome(answer: httpx2.Response) -> str:
    assert answer.status_code == 303, answer.text
    return urlsplit(answer.headers["location"]).fragment


def open_rules(api: Api, **changes: object) -> None:
    api.state.sign_on = OidcProvider.of(api.settings.model_copy(update=changes))


def test_an_invited_person_joins_by_the_address_that_the_provider_verified_and_signs_in_again(
    api: Api, issuer: str, anybody: httpx2.Client
) -> None:
    org = organisation(api)
    with api.client(key(api, org)) as admin:
        made = admin.post("/api/v1/invitations", json={"email": "ada@example.com", "role": "member"}).json()
        knows(issuer, "ada", "Ada@example.com")
        knows(issuer, "eve", "eve@example.com")
        assert outcome(sign_on(anybody, "eve", invitation=made["token"])) == "/sign-on/invitation_for_other"
        assert outcome(sign_on(anybody, "ada", invitation=made["token"])) == "/runs"
        me = anybody.get("/api/v1/me").json()
        assert (me["person"]["email"], me["person"]["name"], me["role"]) == (
            "ada@example.com",
            "Ada",
            "member",
        )
        entries = admin.get("/api/v1/audit", params={"action": "sign_in.succeed"}).json()["data"]
        assert entries[0]["data"]["second_factor"] == "oidc"
    with api.client("") as later:
        assert outcome(sign_on(later, "ada")) == "/runs"
        assert later.get("/api/v1/me").json()["person"]["id"] == me["person"]["id"]
        login = later.post("/api/v1/login", json={"email": "ada@example.com", "password": ""})
        check_problem(login, 401, "wrong_password")  # it has none


def test_an_account_that_is_there_already_is_opened_only_once_its_person_has_linked_it(
    api: Api, issuer: str, anybody: httpx2.Client
) -> None:
    user_id = person(api, "owner@example.com", (api.state.org_id, Role.ADMIN))
    knows(issuer, "owner", "owner@example.com")
    knows(issuer, "other", "other@example.com")
    refused = sign_on(anybody, "owner")
    assert outcome(refused) == "/sign-on/account_not_linked"
    assert "runyard_session" not in str(refused.headers.get_list("set-cookie"))
    with api.client(key(api, organisation(api))) as admin:
        token = admin.post("/api/v1/invitations", json={"email": "owner@example.com"}).json()["token"]
    assert outcome(sign_on(anybody, "owner", invitation=token)) == "/sign-on/account_not_linked"
    with browser(api, user_id) as client:
        session = client.headers["cookie"]

        def link(subject: str) -> str:
            begun = client.post("/api/v1/me/single-sign-on")
            kept = begun.headers["set-cookie"].partition(";")[0]
            back = consent(begun.json()["url"], subject)
            return outcome(
                httpx2.get(back, headers={"cookie": kept})
            )  # SameSite=Strict keeps the session's back

        assert link("other") == "/sign-on/email_differs"
        assert link("owner") == "/account"
        assert [row["issuer"] for row in client.get("/api/v1/me/single-sign-on").json()["data"]] == [issuer]
        assert outcome(sign_on(anybody, "owner")) == "/runs"
        assert anybody.get("/api/v1/me").json()["person"]["id"] == user_id
        with api.state.store.begin() as tx:
            set_by_operator = text("UPDATE users SET must_change_password = :yes WHERE id = :id")
            tx.conn.execute(set_by_operator, {"yes": True, "id": user_id})
        api.state.forget_callers()
        assert anybody.get("/tasks").status_code == 200  # that password was not used
        check_problem(client.get("/tasks"), 403, "password_change_needed")
        with api.state.store.begin() as tx:
            tx.conn.execute(set_by_operator, {"yes": False, "id": user_id})
        api.state.forget_callers()
        assert client.delete("/api/v1/me/single-sign-on").status_code == 204
        assert outcome(sign_on(anybody, "owner")) == "/sign-on/account_not_linked"
        assert session


def test_only_verified_addresses_of_allowed_domains_with_the_required_claims_come_in(
    api: Api, issuer: str, anybody: httpx2.Client
) -> None:
    for subject, email, verified, code in (
        ("unverified", "u@example.com", False, "email_not_verified"),
        ("elsewhere", "e@evil.example", True, "domain_not_allowed"),
        ("lookalike", "e@example.com.evil.example", True, "domain_not_allowed"),
        ("unknown", "n@example.com", True, "no_account"),
    ):
        assert outcome(sign_on(anybody, knows(issuer, subject, email, verified))) == f"/sign-on/{code}"
    open_rules(api, oidc_required_claims="groups=staff,groups=admins", oidc_create_accounts=True)
    knows(issuer, "guest", "guest@example.com", groups=["guests"])
    assert outcome(sign_on(anybody, "guest")) == "/sign-on/claim_not_allowed"
    knows(issuer, "staff", "staff@example.com", groups=["x", "staff"])
    assert outcome(sign_on(anybody, "staff")) == "/runs"


def test_accounts_are_made_where_the_operator_allows_it_with_the_role_of_the_setting(
    api: Api, issuer: str, anybody: httpx2.Client
) -> None:
    org = organisation(api, "staff")
    open_rules(api, oidc_create_accounts=True, oidc_organisation=org, oidc_role="member")
    knows(issuer, "made", "made@shop.example")
    assert outcome(sign_on(anybody, "made")) == "/runs"
    me = anybody.get("/api/v1/me").json()
    assert (me["org_id"], me["role"]) == (org, "member")
    csrf = {"x-csrf-token": me["csrf_token"]}
    check_problem(anybody.delete("/api/v1/me/single-sign-on", headers=csrf), 409, "no_password")


def test_what_the_browser_did_not_begin_itself_does_not_count(
    api: Api, issuer: str, anybody: httpx2.Client
) -> None:
    knows(issuer, "victim", "victim@example.com")
    open_rules(api, oidc_create_accounts=True)
    own = consent(anybody.post(BEGIN, json={}).json()["url"], "victim")
    forged = own.replace(f"state={parse_qs(urlsplit(own).query)['state'][0]}", "state=guessed")
    assert outcome(anybody.get(forged)) == "/sign-on/sign_on_failed"
    assert outcome(anybody.get(own)) == "/sign-on/sign_on_failed"  # the first answer has ended it
    back = consent(anybody.post(BEGIN, json={}).json()["url"], "victim")
    with api.client("") as thief:  # a callback of another browser
        assert outcome(thief.get(back)) == "/sign-on/sign_on_failed"
        thief.post(BEGIN, json={})
        assert outcome(thief.get(back)) == "/sign-on/sign_on_failed"
    again = consent(anybody.post(BEGIN, json={}).json()["url"], "victim")
    assert outcome(anybody.get(f"{again}&iss=https://other.example")) == "/sign-on/sign_on_failed"
    denied = consent(anybody.post(BEGIN, json={}).json()["url"], "victim").partition("?")[0]
    assert outcome(anybody.get(f"{denied}?error=access_denied&state=x")) == "/sign-on/sign_on_failed"
    stolen = consent(anybody.post(BEGIN, json={}).json()["url"], "victim")
    code = parse_qs(urlsplit(stolen).query)["code"][0]
    fresh = parse_qs(urlsplit(anybody.post(BEGIN, json={}).json()["url"]).query)
    injected = f"{stolen.partition('?')[0]}?code={code}&state={fresh['state'][0]}"
    assert outcome(anybody.get(injected)) == "/sign-on/sign_on_failed"  # PKCE: the code is another sign-on's
    with api.state.store.read() as conn:
        assert (
            conn.execute(text("SELECT count(*) FROM users WHERE email = 'victim@example.com'")).scalar() == 0
        )


def test_other_sites_do_not_begin_it_and_its_cookie_is_out_of_reach_of_scripts(
    anybody: httpx2.Client,
) -> None:
    refused = anybody.post(BEGIN, json={}, headers={"origin": "https://evil.example"})
    check_problem(refused, 403, "csrf_refused", "Origin")
    begun = anybody.post(BEGIN, json={})
    (cookie,) = begun.headers.get_list("set-cookie")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    query = parse_qs(urlsplit(begun.json()["url"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["nonce"][0] not in cookie
    assert anybody.get("/api/v1/login").json() == {"password": True, "single_sign_on": True}


def test_single_sign_on_counts_as_the_second_factor_that_an_organisation_requires(
    api: Api, issuer: str, anybody: httpx2.Client
) -> None:
    org = organisation(api)
    open_rules(api, oidc_create_accounts=True, oidc_organisation=org, oidc_role="viewer")
    with api.client(key(api, org)) as admin:
        assert admin.patch("/api/v1/organisation", json={"second_factor_required": True}).status_code == 200
    user_id = person(api, "plain@example.com", (org, Role.VIEWER))
    with browser(api, user_id) as by_password:
        check_problem(by_password.get("/tasks"), 403, "second_factor_required")
    assert outcome(sign_on(anybody, knows(issuer, "strong", "strong@example.com"))) == "/runs"
    assert anybody.get("/tasks").status_code == 200
    assert PASSWORD


def test_a_provider_that_is_away_is_reported_as_such(api: Api, anybody: httpx2.Client) -> None:
    open_rules(api, oidc_issuer="http://127.0.0.1:9")
    check_problem(anybody.post(BEGIN, json={}), 503, "sign_on_unavailable")
    api.state.sign_on = None
    check_problem(anybody.post(BEGIN, json={}), 404, "no_single_sign_on")


def test_the_outbound_guard_checks_the_provider(api: Api, issuer: str, anybody: httpx2.Client) -> None:
    open_rules(api, allow_private_urls=False)
    check_problem(anybody.post(BEGIN, json={}), 503, "sign_on_unavailable")
    open_rules(api, allow_private_urls=False, allowed_hosts="127.0.0.1")
    assert anybody.post(BEGIN, json={}).status_code == 200
