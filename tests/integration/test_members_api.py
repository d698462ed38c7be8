"""Organisations and their members: who may come in, with which role, and what follows when that changes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from sqlalchemy import text

from runyard_api.access.auth import REMEMBERED
from runyard_api.access.sign_in_attempts import SignInAttempts
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service.members import LIFETIME
from tests.api_server import Api
from tests.members import PASSWORD, browser, key, organisation, person
from tests.problems import check_problem
from tests.waiting import wait_until

MEMBERS = "/api/v1/members"
INVITATIONS = "/api/v1/invitations"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server on each database."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    with Api(tmp_path_factory.mktemp("api") / "home", url) as server:
        yield server


@pytest.fixture(autouse=True)
def no_earlier_tries(api: Api) -> None:
    """Sign-ins of other tests do not count."""
    api.state.sign_ins = SignInAttempts("")


@pytest.fixture
def org(api: Api) -> str:
    """An organisation of the test's own."""
    return organisation(api)


@pytest.fixture
def owner(api: Api, org: str) -> Iterator[httpx2.Client]:
    """Its owner, signed in."""
    with browser(api, person(api, f"owner@{org}.example", (org, Role.OWNER))) as client:
        yield client


@pytest.fixture
def anybody(api: Api) -> Iterator[httpx2.Client]:
    """A client without credentials."""
    with api.client("") as client:
        yield client


def test_only_the_operator_makes_organisations(
    api: Api, owner: httpx2.Client, anybody: httpx2.Client
) -> None:
    check_problem(owner.post("/api/v1/organisations", json={"name": "mine"}), 403, "operator_only")
    with api.client() as machine:
        unowned = machine.post("/api/v1/organisations", json={"name": "shop"})
        check_problem(unowned, 400, "missing_field", "owner_email")
        body, once = {"name": "shop", "owner_email": "Boss@shop.example"}, {"idempotency-key": "make-shop"}
        made = machine.post("/api/v1/organisations", json=body, headers=once).json()
        again = machine.post("/api/v1/organisations", json=body, headers=once)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json() == made | {"invitation": made["invitation"] | {"token": None, "link": None}}
    answer = anybody.post(
        f"{INVITATIONS}/accept", json={"token": made["invitation"]["token"], "password": PASSWORD}
    )
    assert answer.status_code == 201, answer.text
    me = answer.json()
    assert (me["org_id"], me["role"], me["person"]["email"]) == (made["id"], "owner", "boss@shop.example")
    renamed = anybody.patch(
        "/api/v1/organisation", json={"name": "Shop"}, headers={"x-csrf-token": me["csrf_token"]}
    )
    assert renamed.json()["name"] == "Shop"
    assert anybody.get("/api/v1/organisations").json()["data"][0]["name"] == "Shop"


def test_a_signed_in_operator_owns_the_organisation_they_make(api: Api) -> None:
    user_id = person(api, "operator@example.com", (api.state.org_id, Role.ADMIN))
    with browser(api, user_id) as client:
        made = client.post("/api/v1/organisations", json={"name": "second"}).json()
        assert made["invitation"] is None
        places = {place["id"]: place["role"] for place in client.get("/api/v1/organisations").json()["data"]}
        assert places == {api.state.org_id: "admin", made["id"]: "owner"}


def test_an_invitation_is_accepted_once_and_its_link_is_shown_once(
    owner: httpx2.Client, anybody: httpx2.Client
) -> None:
    made = owner.post(INVITATIONS, json={"email": "bob@example.com", "role": "viewer"}).json()
    assert made["link"].endswith(f"/console#/invitation/{made['token']}")
    waiting = owner.get(INVITATIONS)
    assert [one["email"] for one in waiting.json()["data"]] == ["bob@example.com"]
    assert made["token"] not in waiting.text
    body = {"token": made["token"], "name": "Bob", "password": "a fine password"}
    weak = anybody.post(f"{INVITATIONS}/accept", json=body | {"password": "weak"})
    check_problem(weak, 400, "weak_password", "password")
    joined = anybody.post(f"{INVITATIONS}/accept", json=body)
    assert (joined.status_code, joined.json()["role"]) == (201, "viewer")
    again = anybody.post(f"{INVITATIONS}/accept", json=body)
    check_problem(again, 404, "invitation_not_found", "token")
    assert owner.get(INVITATIONS).json()["data"] == []
    found = {one["email"]: one["role"] for one in owner.get(MEMBERS).json()["data"]}
    assert found["bob@example.com"] == "viewer"
    check_problem(owner.post(INVITATIONS, json={"email": "Bob@example.com"}), 409, "already_member", "email")


def test_a_place_is_given_to_who_proves_the_account_not_to_who_made_it_elsewhere(
    api: Api, owner: httpx2.Client, anybody: httpx2.Client
) -> None:
    """A person who made an account for another's address, in another organisation, does not get in by it."""
    person(api, "victim@example.com", (organisation(api), Role.VIEWER))
    made = owner.post(INVITATIONS, json={"email": "victim@example.com", "role": "admin"}).json()
    accept = {"token": made["token"], "password": "a heron that wades"}
    check_problem(anybody.post(f"{INVITATIONS}/accept", json=accept), 401, "wrong_password", "password")
    assert len(owner.get(MEMBERS).json()["data"]) == 1
    joined = anybody.post(f"{INVITATIONS}/accept", json=accept | {"password": PASSWORD}).json()
    assert sorted(place["role"] for place in joined["organisations"]) == ["admin", "viewer"]
    assert joined["org_id"] is None  # which of the two is for each call to say


def test_invitations_end_by_time_by_a_newer_one_and_by_hand(
    api: Api, owner: httpx2.Client, anybody: httpx2.Client
) -> None:
    def accept(token: str) -> httpx2.Response:
        return anybody.post(f"{INVITATIONS}/accept", json={"token": token, "password": PASSWORD})

    first = owner.post(INVITATIONS, json={"email": "late@example.com"}).json()
    second = owner.post(INVITATIONS, json={"email": "late@example.com"}).json()
    check_problem(accept(first["token"]), 404, "invitation_not_found", "token")
    with api.state.store.begin() as tx:
        tx.conn.execute(
            text("UPDATE invitations SET expires_at = expires_at - :s WHERE id = :id"),
            {"s": LIFETIME, "id": second["id"]},
        )
    check_problem(accept(second["token"]), 404, "invitation_not_found", "token")
    third = owner.post(INVITATIONS, json={"email": "late@example.com"}).json()
    assert owner.delete(f"{INVITATIONS}/{third['id']}").status_code == 204
    check_problem(accept(third["token"]), 404, "invitation_not_found", "token")
    check_problem(owner.delete(f"{INVITATIONS}/{third['id']}"), 404, "invitation_not_found", "invitation_id")


def test_no_member_gives_a_role_above_their_own_nor_touches_who_is_above_them(
    api: Api, org: str, owner: httpx2.Client
) -> None:
    boss = owner.get("/api/v1/me").json()["person"]["id"]
    with browser(api, person(api, f"admin@{org}.example", (org, Role.ADMIN))) as admin:
        for path in (INVITATIONS, MEMBERS):
            asked = admin.post(path, json={"email": "x@example.com", "role": "owner"})
            check_problem(asked, 403, "role_exceeds_own", "role")
        check_problem(admin.patch(f"{MEMBERS}/{boss}", json={"role": "viewer"}), 403, "outranked", "user_id")
        check_problem(admin.delete(f"{MEMBERS}/{boss}"), 403, "outranked", "user_id")
        me = admin.get("/api/v1/me").json()["person"]["id"]
        promoted = admin.patch(f"{MEMBERS}/{me}", json={"role": "owner"})
        check_problem(promoted, 403, "role_exceeds_own", "role")
    for role in (Role.MEMBER, Role.VIEWER):
        with browser(api, person(api, f"{role}@{org}.example", (org, role))) as client:
            check_problem(client.get(MEMBERS), 403, "missing_permission")
            check_problem(client.post(INVITATIONS, json={"email": "x@e.com"}), 403, "missing_permission")
    stranger = person(api, f"stranger@{org}.example")
    check_problem(
        owner.patch(f"{MEMBERS}/{stranger}", json={"role": "admin"}), 404, "member_not_found", "user_id"
    )


def test_a_key_cut_down_to_scopes_makes_no_key_that_may_more(api: Api, org: str) -> None:
    scopes = ["members:write", "members:read", "agents:read"]
    with api.client(key(api, org, Role.ADMIN, scopes)) as client:
        for role in ("admin", "member", "viewer"):
            asked = client.post(INVITATIONS, json={"email": f"{role}@example.com", "role": role})
            check_problem(asked, 403, "role_exceeds_own", "role")
        assert client.get(INVITATIONS).json()["data"] == []


def test_the_last_owner_stays_even_when_two_leave_at_once(api: Api, org: str, owner: httpx2.Client) -> None:
    first = owner.get("/api/v1/me").json()["person"]["id"]
    check_problem(owner.patch(f"{MEMBERS}/{first}", json={"role": "admin"}), 409, "last_owner", "role")
    check_problem(owner.delete(f"{MEMBERS}/{first}"), 409, "last_owner", "role")
    second = person(api, f"second@{org}.example", (org, Role.OWNER))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda id_: owner.delete(f"{MEMBERS}/{id_}").status_code, (second, first)))
    assert answers.count(204) == 1
    with api.state.store.read() as conn:
        query = text("SELECT count(*) FROM members WHERE org_id = :org AND role = 'owner'")
        assert conn.execute(query, {"org": org}).scalar_one() == 1


def test_a_key_reaches_no_further_than_the_present_role_of_who_made_it(
    api: Api, org: str, owner: httpx2.Client
) -> None:
    maker_id = person(api, f"maker@{org}.example", (org, Role.ADMIN))
    with browser(api, maker_id) as maker:
        made = maker.post("/api/v1/keys", json={"name": "k", "role": "admin"}).json()
    with api.client(made["key"]) as parent:
        child_key = parent.post("/api/v1/keys", json={"name": "child", "role": "admin"}).json()["key"]
        kept_key = key(api, org)
        with api.client(child_key) as child, api.client(kept_key) as nobodys:
            assert child.get(MEMBERS).status_code == 200
            assert owner.patch(f"{MEMBERS}/{maker_id}", json={"role": "viewer"}).status_code == 200
            for client in (parent, child):
                assert client.get("/api/v1/me").json()["role"] == "viewer"
                check_problem(client.post("/api/v1/keys", json={"name": "more"}), 403, "missing_permission")
                assert client.get("/tasks").status_code == 200
            assert owner.patch(f"{MEMBERS}/{maker_id}", json={"role": "admin"}).status_code == 200
            assert child.get(MEMBERS).status_code == 200
            assert owner.delete(f"{MEMBERS}/{maker_id}").status_code == 204
            for client in (parent, child):
                check_problem(client.get("/tasks"), 401, "key_orphaned")
            assert nobodys.get(MEMBERS).status_code == 200


def test_another_process_notices_within_moments(api: Api, org: str) -> None:
    """What another api process changes is seen as soon as what this one remembers has lapsed."""
    user_id = person(api, f"far@{org}.example", (org, Role.ADMIN))
    with browser(api, user_id) as client:
        made = client.post("/api/v1/keys", json={"name": "k", "role": "admin"}).json()
        with api.client(made["key"]) as machine:
            assert machine.get(MEMBERS).status_code == 200
            with api.state.store.begin() as tx:
                tx.conn.execute(text("DELETE FROM members WHERE user_id = :id"), {"id": user_id})
            wait_until(lambda: machine.get(MEMBERS).status_code == 401, seconds=REMEMBERED + 10)
            wait_until(lambda: client.get(MEMBERS).status_code == 403, seconds=REMEMBERED + 10)


def test_members_are_added_by_invitation_and_set_their_own_password(
    owner: httpx2.Client, anybody: httpx2.Client
) -> None:
    body = {"email": "dora@example.com", "role": "member"}
    chosen = owner.post(MEMBERS, json=body | {"password": "a fine password"})
    check_problem(chosen, 400, "password_not_accepted", "password")
    made = owner.post(MEMBERS, json=body)
    assert made.status_code == 201, made.text
    assert made.json()["link"].endswith(made.json()["token"])
    accept = {"token": made.json()["token"], "name": "Dora", "password": "one of her own"}
    assert anybody.post(f"{INVITATIONS}/accept", json=accept).status_code == 201
    login = {"email": "dora@example.com", "password": "one of her own"}
    me = anybody.post("/api/v1/login", json=login).json()
    assert (me["role"], me["person"]["name"], me["must_change_password"]) == ("member", "Dora", False)
    assert "runs:create" in me["permissions"]
    assert "members:read" not in me["permissions"]


@pytest.mark.parametrize("path", [MEMBERS, INVITATIONS])
def test_known_and_unknown_addresses_get_the_same_answer(api: Api, owner: httpx2.Client, path: str) -> None:
    name = f"known-{path.rpartition('/')[2]}"
    person(api, f"{name}@example.com", (organisation(api), Role.OWNER))
    known, unknown = (
        owner.post(path, json={"email": f"{who}@example.com", "role": "viewer"})
        for who in (name, f"un{name}")
    )
    own = {"id", "email", "token", "link", "created_at", "expires_at"}
    assert known.status_code == unknown.status_code == 201
    assert known.json().keys() == unknown.json().keys()
    for field in known.json().keys() - own:
        assert known.json()[field] == unknown.json()[field], field


def must_change(api: Api, email: str) -> None:
    """As an account whose password another person chose."""
    with api.state.store.begin() as tx:
        query = text("UPDATE users SET must_change_password = :yes WHERE email = :email")
        assert tx.conn.execute(query, {"yes": True, "email": email}).rowcount == 1


def test_a_password_that_another_person_chose_opens_nothing_but_its_change(
    api: Api, org: str, owner: httpx2.Client, anybody: httpx2.Client
) -> None:
    person(api, f"given@{org}.example", (org, Role.ADMIN))
    must_change(api, f"given@{org}.example")
    token = owner.post(INVITATIONS, json={"email": f"other@{org}.example"}).json()["token"]
    here = {"email": f"given@{org}.example", "password": PASSWORD}
    me = anybody.post("/api/v1/login", json=here).json()
    assert (me["must_change_password"], me["org_id"]) == (True, None)
    assert set(me["permissions"]) == {"account:read", "account:write"}
    csrf = {"x-csrf-token": me["csrf_token"], "x-org-id": org}
    for method, path, body in (
        ("GET", "/tasks", None),
        ("GET", MEMBERS, None),
        ("GET", "/api/v1/organisations", None),
        ("POST", "/api/v1/keys", {"name": "k"}),
        ("GET", "/api/agent/run", None),
    ):
        refused = anybody.request(method, path, json=body, headers=csrf)
        assert refused.status_code == 403, (path, refused.text)
    check_problem(anybody.get(MEMBERS, headers=csrf), 403, "password_change_needed")
    assert anybody.get("/api/v1/me", headers=csrf).json()["must_change_password"] is True
    change = {"current": PASSWORD, "new": PASSWORD}
    same = anybody.post("/api/v1/me/password", json=change, headers=csrf)
    check_problem(same, 400, "same_password", "new")
    changed = anybody.post("/api/v1/me/password", json=change | {"new": "one of my own"}, headers=csrf)
    assert changed.status_code == 204, changed.text
    assert anybody.get(MEMBERS, headers=csrf).status_code == 200
    assert anybody.get("/api/v1/me").json()["must_change_password"] is False
    assert token


def test_an_invitation_is_not_accepted_with_a_password_that_another_person_chose(
    api: Api, owner: httpx2.Client, anybody: httpx2.Client
) -> None:
    person(api, "hijacked@example.com", (organisation(api), Role.VIEWER))
    must_change(api, "hijacked@example.com")
    made = owner.post(INVITATIONS, json={"email": "hijacked@example.com", "role": "admin"}).json()
    accept = {"token": made["token"], "password": PASSWORD}
    check_problem(anybody.post(f"{INVITATIONS}/accept", json=accept), 403, "password_change_needed")
    assert "hijacked@example.com" not in owner.get(MEMBERS).text
    assert owner.get(INVITATIONS).json()["data"][0]["email"] == "hijacked@example.com"
