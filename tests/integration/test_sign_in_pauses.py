"""Failed sign-ins are followed by pauses that stop guessing, and that shut out neither the person nor others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from runyard_api.access.failure_counts import LocalCounts
from runyard_api.access.sign_in_attempts import UNKNOWN_NOTED, SignInAttempts
from runyard_common.identity.rules import passwords, sign_in_pauses
from runyard_common.identity.rules.roles import Role
from tests.api_server import Api
from tests.members import PASSWORD, browser, hash_cheaply, organisation, person
from tests.problems import check_problem

PROXIED = "x-forwarded-for"
STRICT = sign_in_pauses.EMAIL_AND_NETWORK


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server behind a proxy on this machine, so that a test can call from many networks."""
    with Api(tmp_path_factory.mktemp("api") / "home", trusted_proxies="127.0.0.1") as server:
        yield server


@pytest.fixture(autouse=True)
def now(api: Api, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No failures of other tests, cheap hashes, and a clock that the test moves."""
    hash_cheaply(monkeypatch)
    found = [1000.0]
    api.state.sign_ins = SignInAttempts("")
    api.state.sign_ins.counts[:] = [LocalCounts(clock=lambda: found[0])]
    return found


@pytest.fixture
def stranger(api: Api) -> Iterator[httpx2.Client]:
    """A client without credentials, from a network of its own."""
    with api.client("") as client:
        client.headers[PROXIED] = "192.0.2.66"
        yield client


def account(api: Api, name: str, *places: tuple[str, Role]) -> str:
    person(api, f"{name}@example.com", *(places or ((api.state.org_id, Role.ADMIN),)))
    return f"{name}@example.com"


def login(client: httpx2.Client, email: str, password: str = PASSWORD, **headers: str) -> httpx2.Response:
    return client.post("/api/v1/login", json={"email": email, "password": password}, headers=headers)


def fail(client: httpx2.Client, email: str, times: int, **headers: str) -> None:
    for _ in range(times):
        check_problem(login(client, email, "a guess", **headers), 401, "wrong_password")


def run(api: Api, work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, api.state.loop).result(50)


def test_a_stranger_who_guesses_shuts_no_other_out(api: Api, stranger: httpx2.Client) -> None:
    email = account(api, "victim")
    fail(stranger, email, STRICT.free)
    refused = login(stranger, email, PASSWORD)  # the right one, too: else a guess would be worth its while
    check_problem(refused, 429, "too_many_sign_ins")
    assert 0 < int(refused.headers["retry-after"]) <= STRICT.shortest_s
    with api.client("") as owner:
        assert login(owner, email, **{PROXIED: "198.51.100.7"}).status_code == 200
        assert login(owner, account(api, "neighbour"), **{PROXIED: "192.0.2.66"}).status_code == 200


def test_only_failures_count(api: Api, stranger: httpx2.Client) -> None:
    email = account(api, "busy")
    for _ in range(STRICT.free + 2):
        assert login(stranger, email).status_code == 200
    with api.client("") as elsewhere:  # a device that is not known
        elsewhere.headers[PROXIED] = "192.0.2.67"
        fail(elsewhere, email, STRICT.free - 1)
        assert login(elsewhere, email).status_code == 200
        elsewhere.cookies.clear()
        fail(elsewhere, email, STRICT.free - 1)  # a success has cleared those before it
        assert login(elsewhere, email).status_code == 200


def test_pauses_grow_and_end(api: Api, stranger: httpx2.Client, now: list[float]) -> None:
    email = account(api, "guessed")
    fail(stranger, email, STRICT.free)
    for seconds in (30, 60, 120, 240, 480, 900, 900):
        refused = login(stranger, email)
        check_problem(refused, 429, "too_many_sign_ins")
        assert int(refused.headers["retry-after"]) == seconds
        now[0] += seconds
        fail(stranger, email, 1)
    now[0] += STRICT.window_s
    assert login(stranger, email).status_code == 200


def test_a_refused_network_uses_up_nothing_of_others(api: Api, stranger: httpx2.Client) -> None:
    emails = [account(api, f"many{n}") for n in range(4)]
    for email in emails[:3]:
        fail(stranger, email, 10)
    for _ in range(20):
        check_problem(login(stranger, emails[3], "a guess"), 429, "too_many_sign_ins")
    assert not [key for key in api.state.sign_ins.counts[0]._found if key.endswith("many3")]  # type: ignore[attr-defined]
    with api.client("") as owner:
        fail(owner, emails[3], 9, **{PROXIED: "198.51.100.8"})
        assert login(owner, emails[3], **{PROXIED: "198.51.100.8"}).status_code == 200


def test_made_up_addresses_before_the_proxys_own_change_nothing(api: Api, stranger: httpx2.Client) -> None:
    email = account(api, "spoofed")
    for n in range(STRICT.free):
        fail(stranger, email, 1, **{PROXIED: f"203.0.113.{n}, 192.0.2.80"})
    check_problem(login(stranger, email, **{PROXIED: "203.0.113.99, 192.0.2.80"}), 429, "too_many_sign_ins")


def test_an_ipv6_network_is_one_and_ipv4_inside_ipv6_is_ipv4(api: Api, stranger: httpx2.Client) -> None:
    email = account(api, "six")
    for n in range(STRICT.free):
        fail(stranger, email, 1, **{PROXIED: f"2001:db8::{n + 1}"})
    check_problem(login(stranger, email, **{PROXIED: "2001:db8::ffff"}), 429, "too_many_sign_ins")
    fail(stranger, email, STRICT.free, **{PROXIED: "::ffff:192.0.2.90"})
    check_problem(login(stranger, email, **{PROXIED: "192.0.2.90"}), 429, "too_many_sign_ins")
    assert login(stranger, email, **{PROXIED: "::ffff:192.0.2.91"}).status_code == 200


def test_guessing_from_many_networks_is_paused_and_a_known_device_passes(
    api: Api, stranger: httpx2.Client, now: list[float]
) -> None:
    email = account(api, "famous")
    with api.client("") as owner:
        assert login(owner, email, **{PROXIED: "198.51.100.9"}).status_code == 200
        for n in range(sign_in_pauses.EMAIL.free):
            fail(stranger, email, 1, **{PROXIED: f"10.1.{n}.1"})
        check_problem(login(stranger, email, **{PROXIED: "10.2.0.1"}), 429, "too_many_sign_ins")
        assert login(owner, email, **{PROXIED: "10.3.0.1"}).status_code == 200
        fail(owner, email, sign_in_pauses.DEVICE.free)  # a stolen cookie is worth so many guesses
        check_problem(login(owner, email, **{PROXIED: "10.3.0.1"}), 429, "too_many_sign_ins")
        now[0] += sign_in_pauses.EMAIL.window_s
        assert login(owner, email, **{PROXIED: "10.3.0.1"}).status_code == 200


def test_a_device_is_known_for_its_person_and_their_present_password(
    api: Api, stranger: httpx2.Client
) -> None:
    mine, other = account(api, "mine"), account(api, "other")
    assert login(stranger, mine).status_code == 200  # a cookie of an account of one's own
    fail(stranger, other, STRICT.free)
    check_problem(login(stranger, other), 429, "too_many_sign_ins")
    assert login(stranger, mine).status_code == 200
    stranger.cookies.set("runyard_device", "gAAAAA-forged", domain="127.0.0.1")
    with api.client("") as owner:
        owner.headers[PROXIED] = "192.0.2.66"
        me = login(owner, mine).json()
        kept = owner.cookies["runyard_device"]
        change = {"current": PASSWORD, "new": "three plain herons wade"}
        done = owner.post("/api/v1/me/password", json=change, headers={"x-csrf-token": me["csrf_token"]})
        assert done.status_code == 204, done.text
    with api.client("") as thief:
        thief.headers[PROXIED] = "192.0.2.99"
        thief.cookies.set("runyard_device", kept, domain="127.0.0.1")
        fail(thief, mine, STRICT.free)
        check_problem(login(thief, mine, "three plain herons wade"), 429, "too_many_sign_ins")


def test_of_many_attempts_at_once_only_the_free_ones_are_tried(api: Api) -> None:
    email = account(api, "raced")

    def guess(n: int) -> int:
        with api.client("") as client:
            return login(client, email, f"guess {n}", **{PROXIED: "192.0.2.120"}).status_code

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(guess, range(48)))
    assert set(answers) == {401, 429}
    assert STRICT.free <= answers.count(401) <= STRICT.free + 1  # two are hashed at a time


def test_an_unknown_address_costs_a_hash_like_a_known_one(
    api: Api, stranger: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def refuse(_: str, kept: str | None) -> bool:
        asked.append(kept is None)
        return False

    monkeypatch.setattr(passwords, "matches", refuse)
    answers = [login(stranger, email) for email in (account(api, "timed"), "untimed@example.com")]
    assert asked == [False, True]
    known, unknown = (check_problem(answer, 401, "wrong_password") for answer in answers)
    assert known["detail"] == unknown["detail"]
    assert answers[0].headers.keys() == answers[1].headers.keys()


def test_what_a_process_counts_is_bounded() -> None:
    counts = LocalCounts(most=100)

    async def flood() -> None:
        for n in range(1000):
            await counts.add(f"pair:{n}", 60)

    asyncio.run(flood())
    assert len(counts) == 100


def test_attempts_are_counted_while_redis_is_away(api: Api, stranger: httpx2.Client) -> None:
    api.state.sign_ins = SignInAttempts("redis://127.0.0.1:1/0")  # no server there
    email = account(api, "tried")
    fail(stranger, email, STRICT.free)
    check_problem(login(stranger, email), 429, "too_many_sign_ins")


def test_another_process_refuses_what_failed_here(
    api: Api, any_redis_url: str, stranger: httpx2.Client
) -> None:
    email = account(api, f"shared-{any_redis_url.rpartition(':')[2].partition('/')[0]}")
    here, there = SignInAttempts(any_redis_url), SignInAttempts(any_redis_url)
    api.state.sign_ins = here
    fail(stranger, email, STRICT.free)
    api.state.sign_ins = there
    refused = login(stranger, email)
    check_problem(refused, 429, "too_many_sign_ins")
    assert 0 < int(refused.headers["retry-after"]) <= STRICT.shortest_s
    for each in (here, there):
        run(api, each.close())


def test_guessing_a_persons_password_by_an_invitation_is_paused_like_sign_ins(
    api: Api, stranger: httpx2.Client
) -> None:
    email = account(api, "invited", (organisation(api), Role.VIEWER))
    with api.client() as admin:
        token = admin.post("/api/v1/invitations", json={"email": email}).json()["token"]
    accept = {"token": token, "password": "a guess"}
    for _ in range(STRICT.free):
        check_problem(
            stranger.post("/api/v1/invitations/accept", json=accept), 401, "wrong_password", "password"
        )
    check_problem(stranger.post("/api/v1/invitations/accept", json=accept), 429, "too_many_sign_ins")
    check_problem(login(stranger, email), 429, "too_many_sign_ins")


def entries(client: httpx2.Client, **filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/audit", params=filters).json()["data"]
    return found


def test_sign_ins_good_and_bad_are_in_the_audit_log_of_the_persons_organisations(
    api: Api, stranger: httpx2.Client
) -> None:
    one, two = organisation(api), organisation(api)
    email = account(api, "audited", (one, Role.ADMIN), (two, Role.ADMIN))
    fail(stranger, email, 1)
    me = login(stranger, email).json()
    csrf = {"x-csrf-token": me["csrf_token"], "x-org-id": one}
    user_id = me["person"]["id"]
    assert stranger.post("/api/v1/logout", headers=csrf).status_code == 204
    with browser(api, user_id) as client:
        for org in (one, two):
            found = client.get("/api/v1/audit", headers={"x-org-id": org}).json()["data"]
            assert [(entry["action"], entry["actor"], entry["object_id"]) for entry in found] == [
                ("sign_in.end", f"user:{user_id}", user_id),
                ("sign_in.succeed", f"user:{user_id}", user_id),
                ("sign_in.fail", "anonymous", user_id),
            ]
            assert found[1]["data"]["address"] == "192.0.2.66"
            assert found[2]["data"]["cause"] == "wrong_password"
            assert PASSWORD not in str(found)


def test_failures_of_unknown_addresses_are_the_operators_to_see_so_many_an_hour(
    api: Api, stranger: httpx2.Client
) -> None:
    fail(stranger, "unknown@example.com", 1)
    with api.client() as operator:
        (entry,) = entries(operator, action="sign_in.fail", object_id="")[:1]
        assert (entry["data"]["email"], entry["object_id"]) == ("unknown@example.com", "")
    noted = [run(api, api.state.sign_ins.notes_unknown()) for _ in range(UNKNOWN_NOTED + 5)]
    assert noted.count(False) >= 5
