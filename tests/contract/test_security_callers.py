"""Who may call what: every operation of every front, tried without credentials, by strangers, and from below.

The operations are those the server routes by, so a new route is tried without being written down here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from runyard_api.http.operations import Operation
from runyard_common.identity.rules.roles import Role
from tests import security
from tests.api_server import Api
from tests.members import browser, key, person
from tests.security import CHANGING, GUARDED, NAMING, OPERATIONS, World, name_of

#: Operations of a person, which no key may; of those that everybody may, who one is.
ACCOUNT = "account:"
COOKIE_FRONTS = ("native", "appstrate", "nara")


@pytest.fixture(scope="module")
def anybody(api: Api) -> Iterator[httpx2.Client]:
    """A client without credentials."""
    with api.client("") as client:
        yield client


@pytest.fixture(scope="module")
def stranger(world: World) -> Iterator[httpx2.Client]:
    """An admin of another organisation."""
    with world.api.client(world.stranger) as client:
        yield client


@pytest.fixture(scope="module")
def unscoped(api: Api) -> Iterator[dict[str, httpx2.Client]]:
    """Admin's keys cut down to one scope, two of them: no operation needs both."""
    clients = {
        scope: api.client(key(api, api.state.org_id, Role.ADMIN, [scope]))
        for scope in ("usage:read", "events:read")
    }
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture(scope="module")
def of_role(api: Api) -> Iterator[dict[Role, httpx2.Client]]:
    """A key of each role."""
    clients = {role: api.client(key(api, api.state.org_id, role)) for role in Role}
    yield clients
    for client in clients.values():
        client.close()


def test_what_anybody_may_call_is_written_down() -> None:
    public = {operation.name for operation in OPERATIONS if operation.permission is None}
    assert public == security.PUBLIC


def test_every_placeholder_has_an_object_of_the_world(world: World) -> None:
    named = {name for operation in OPERATIONS for name in re.findall(r"\{(\w+)", operation.path)}
    assert named <= world.ids.keys()


@pytest.mark.parametrize("operation", GUARDED, ids=name_of)
def test_no_caller_gets_in_without_credentials(
    operation: Operation, world: World, anybody: httpx2.Client
) -> None:
    for path in operation.paths:
        url = world.url(operation, path)
        for credentials in (
            {},
            {"authorization": "Bearer ry_" + "0" * 48},
            {"authorization": "Bearer ask_" + "0" * 48},
            {"authorization": "Basic YTpi"},
            {"cookie": "runyard_session=guessed; better-auth.session_token=guessed"},
        ):
            answer = anybody.request(operation.method, url, headers=credentials, **world.body(operation))
            assert answer.status_code == 401, (credentials, url, answer.text)


@pytest.mark.parametrize("operation", NAMING, ids=name_of)
def test_another_organisations_objects_do_not_exist(
    operation: Operation, world: World, stranger: httpx2.Client
) -> None:
    answer = world.call(stranger, operation)
    assert answer.status_code == 404, answer.text
    assert world.ids["task_id"] not in answer.text.replace(str(answer.request.url), "") or (
        "{task_id}" in operation.path or "{run_id}" in operation.path
    )


def test_a_secret_of_the_same_name_is_each_organisations_own(world: World, stranger: httpx2.Client) -> None:
    name = world.ids["secret_name"]
    path = f"/api/v1/secrets/{name}"

    def found(client: httpx2.Client) -> list[dict[str, str]]:
        return [one for one in client.get("/api/v1/secrets").json()["data"] if one["name"] == name]

    with world.api.client(world.key) as owner:
        before = found(owner)
        assert len(before) == 1
        assert stranger.put(path, json={"value": "another value"}).status_code == 200
        assert found(owner) == before
        assert stranger.delete(path).status_code == 204
        assert found(owner) == before
        assert found(stranger) == []


def _streams(operation: Operation) -> bool:
    """A stream has no end; what it carries is tested with the streams."""
    return "text/event-stream" in {answer.media_type for answer in operation.answers}


@pytest.mark.parametrize(
    "operation",
    [o for o in GUARDED if "{" not in o.path and o.method == "GET" and not _streams(o)],
    ids=name_of,
)
def test_no_list_shows_another_organisations_objects(
    operation: Operation, world: World, stranger: httpx2.Client
) -> None:
    shown = stranger.get(world.url(operation)).text
    theirs = {name: id_ for name, id_ in world.ids.items() if len(id_) >= 16 and name != "model"}
    assert not [name for name, id_ in theirs.items() if id_ in shown]


BY_BODY = {
    "native.create_schedule", "nara.run_agent", "agentbase.index_document", "appstrate.create_api_key",
    "agentbase.get_messages", "agentbase.clear_messages",
}  # fmt: skip


@pytest.mark.parametrize("operation", [o for o in CHANGING if o.name in BY_BODY], ids=name_of)
def test_nor_do_they_when_a_body_names_them(
    operation: Operation, world: World, stranger: httpx2.Client
) -> None:
    assert world.call(stranger, operation).status_code == 404


def test_an_order_over_many_reaches_no_other_organisation(world: World, stranger: httpx2.Client) -> None:
    for verb in ("cancel", "retry"):
        changed = stranger.post(f"/tasks/{verb}", json={"filter": {}})
        assert changed.json()["count"] == 0
    again = stranger.post("/api/v1/deliveries/redeliver", json={"ids": [world.ids["delivery_id"]]})
    assert again.json()["count"] == 0
    assert [refused["code"] for refused in again.json()["refused"]] == ["delivery_not_found"]


def test_strangers_have_changed_nothing(world: World) -> None:
    """Runs after the tries above, and holds whether or not they ran."""
    with world.api.client(world.stranger) as client:
        theirs = client.get("/api/v1/me").json()["actor"]
    with world.api.client(world.key) as client:
        noted = client.get("/api/v1/audit", params={"limit": 100, "actor": theirs}).json()["data"]
        assert noted == []
        assert client.get(f"/tasks/{world.ids['task_id']}").json()["status"] == "pending"
        assert client.get(f"/api/v1/webhooks/{world.ids['webhook_id']}").json()["active"] is True


#: Every caller may know who they are.
SCOPED = [operation for operation in GUARDED if operation.permission != ACCOUNT + "read"]


@pytest.mark.parametrize("operation", SCOPED, ids=name_of)
def test_a_key_whose_scopes_leave_it_out_may_not(
    operation: Operation, world: World, unscoped: dict[str, httpx2.Client]
) -> None:
    scope = "events:read" if operation.permission == "usage:read" else "usage:read"
    answer = world.call(unscoped[scope], operation)
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize(
    "operation", [o for o in GUARDED if security.weakest_refusal(o) is not None], ids=name_of
)
def test_a_role_without_the_permission_may_not(
    operation: Operation, world: World, of_role: dict[Role, httpx2.Client]
) -> None:
    refused = security.weakest_refusal(operation)
    assert refused is not None
    ranks = list(Role)
    for role in ranks[ranks.index(refused) :]:
        answer = world.call(of_role[role], operation)
        assert answer.status_code == 403, (role, answer.text)


@pytest.mark.parametrize("operation", [o for o in CHANGING if o.front.name in COOKIE_FRONTS], ids=name_of)
def test_a_cookie_changes_nothing_without_the_csrf_token_or_from_another_site(
    operation: Operation, world: World, csrf: dict[str, httpx2.Client]
) -> None:
    for reason, client in csrf.items():
        if operation.front.name == "appstrate" and reason == "no token":
            continue  # its X-Org-Id, which no page of another site can send, replaces the token
        answer = world.call(client, operation)
        assert answer.status_code == 403, (reason, answer.text)


@pytest.fixture(scope="module")
def csrf(api: Api) -> Iterator[dict[str, httpx2.Client]]:
    """Browsers of an admin that other sites make call."""
    user_id = person(api, "csrf@example.com", (api.state.org_id, Role.ADMIN))
    headers = {
        "no token": {"x-csrf-token": ""},
        "another's token": {"x-csrf-token": "x" * 43},
        "another origin": {"origin": "https://evil.example"},
        "another site": {"sec-fetch-site": "cross-site"},
    }
    clients = {reason: browser(api, user_id, api.state.org_id, **given) for reason, given in headers.items()}
    yield clients
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("operation", [o for o in CHANGING if o.front.name not in COOKIE_FRONTS], ids=name_of)
def test_the_other_fronts_know_no_cookies_at_all(
    operation: Operation, world: World, csrf: dict[str, httpx2.Client]
) -> None:
    assert world.call(csrf["no token"], operation).status_code == 401
