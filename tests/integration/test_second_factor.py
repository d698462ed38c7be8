"""A second factor beside the password: each code counts once, failures pause, an organisation may require it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pyotp
import pytest
from sqlalchemy import text

from runyard_api.access.failure_counts import LocalCounts
from runyard_api.access.sign_in_attempts import SignInAttempts
from runyard_common.identity.rules import sign_in_pauses
from runyard_common.identity.rules.actors import OPERATOR
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import second_factors
from tests.api_server import Api
from tests.members import PASSWORD, browser, hash_cheaply, key, organisation, person
from tests.problems import check_problem

FACTOR = "/api/v1/me/second-factor"
STRICT = sign_in_pauses.EMAIL_AND_NETWORK


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server on each database."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    with Api(tmp_path_factory.mktemp("api") / "home", url) as server:
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
def org(api: Api) -> str:
    """An organisation of the test's own."""
    return organisation(api)


@pytest.fixture
def stranger(api: Api) -> Iterator[httpx2.Client]:
    """A client without credentials."""
    with api.client("") as client:
        yield client


class Authenticator:
    """A person's phone: it gives the code of the server's time, each a step later than the one before."""

    def __init__(self, api: Api, secret: str) -> None:
        self.api, self.totp, self.step = api, pyotp.TOTP(secret), 0

    def code(self) -> str:
        """The next code that counts. The server takes the present step, one before and one after."""
        self.rewind()
        return self.totp.at(self._now())

    def rewind(self) -> None:
        """Let the codes used so far be of long ago, in place of waiting for 30 seconds."""
        with self.api.state.store.begin() as tx:
            tx.conn.execute(text("UPDATE second_factors SET last_step = last_step - 10"))

    def _now(self) -> float:
        with self.api.state.store.read() as conn:
            return self.api.state.db.now(conn)


def enrolled(api: Api, client: httpx2.Client) -> tuple[Authenticator, list[str]]:
    made = client.post(FACTOR, json={"password": PASSWORD})
    assert made.status_code == 201, made.text
    assert made.json()["qr"].startswith("data:image/svg+xml")
    phone = Authenticator(api, made.json()["secret"])
    confirmed = client.post(f"{FACTOR}/confirm", json={"code": phone.code()})
    assert confirmed.status_code == 200, confirmed.text
    return phone, confirmed.json()["recovery_codes"]


def account(api: Api, org: str, name: str = "ada", role: Role = Role.ADMIN) -> tuple[str, str]:
    email = f"{name}@{org}.example"
    return person(api, email, (org, role)), email


def login(client: httpx2.Client, email: str, **more: Any) -> httpx2.Response:
    client.cookies.clear()  # a device that is not known
    return client.post("/api/v1/login", json={"email": email, "password": PASSWORD} | more)


def test_once_enrolled_the_password_alone_opens_nothing(api: Api, org: str, stranger: httpx2.Client) -> None:
    user_id, email = account(api, org)
    with browser(api, user_id) as here, browser(api, user_id) as there:
        phone, _ = enrolled(api, here)
        check_problem(there.get("/tasks"), 401, "session_expired")  # it was begun by password alone
        assert here.get("/api/v1/me").json()["person"]["second_factor"] is True
        needed = login(stranger, email)
        check_problem(needed, 401, "second_factor_needed", "code")
        assert "set-cookie" not in needed.headers
        wrong_password = login(stranger, email, password="not the one", code=phone.code())
        check_problem(wrong_password, 401, "wrong_password")
        assert login(stranger, email, code=phone.code()).status_code == 200
        assert stranger.get("/tasks").status_code == 200
        entry = here.get("/api/v1/audit", params={"action": "sign_in.succeed"}).json()["data"][0]
        assert entry["data"]["second_factor"] == "totp"


def test_a_code_counts_once_even_when_it_is_sent_twice_at_once(api: Api, org: str) -> None:
    user_id, email = account(api, org)
    with browser(api, user_id) as here:
        phone, _ = enrolled(api, here)
    code = phone.code()

    def send(_: int) -> int:
        with api.client("") as client:
            return login(client, email, code=code).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(send, range(4))) == [200, 401, 401, 401]


def test_a_recovery_code_counts_once(api: Api, org: str, stranger: httpx2.Client) -> None:
    user_id, email = account(api, org)
    with browser(api, user_id) as here:
        phone, codes = enrolled(api, here)
        assert login(stranger, email, code=codes[3].upper().replace("-", " ")).status_code == 200
        check_problem(login(stranger, email, code=codes[3]), 401, "wrong_code", "code")
        assert here.get(FACTOR).json()["recovery_codes_left"] == 9
        proof = {"password": PASSWORD, "code": phone.code()}
        renewed = here.post(f"{FACTOR}/recovery-codes", json=proof).json()["recovery_codes"]
        check_problem(login(stranger, email, code=codes[4]), 401, "wrong_code", "code")
        assert login(stranger, email, code=renewed[0]).status_code == 200


def test_neither_secrets_nor_recovery_codes_are_stored_as_they_are(api: Api, org: str) -> None:
    user_id, _ = account(api, org)
    with browser(api, user_id) as here:
        phone, codes = enrolled(api, here)
        assert codes[0] not in here.get("/api/v1/audit").text
    with api.state.store.read() as conn:
        rows = [repr(tuple(row)) for row in conn.execute(text("SELECT * FROM second_factors"))]
        rows += [repr(tuple(row)) for row in conn.execute(text("SELECT * FROM recovery_codes"))]
    assert not [row for row in rows if phone.totp.secret in row or codes[0].replace("-", "") in row]


def test_wrong_codes_pause_and_the_right_password_buys_no_more_of_them(
    api: Api, org: str, stranger: httpx2.Client, now: list[float]
) -> None:
    user_id, email = account(api, org)
    with browser(api, user_id) as here:
        phone, _ = enrolled(api, here)
    for _ in range(STRICT.free):
        check_problem(login(stranger, email), 401, "second_factor_needed", "code")
        check_problem(login(stranger, email, code="000000"), 401, "wrong_code", "code")
    check_problem(login(stranger, email, code=phone.code()), 429, "too_many_sign_ins")
    now[0] += STRICT.shortest_s
    assert login(stranger, email, code=phone.code()).status_code == 200


def test_enrolling_and_removing_need_the_password_and_the_code(api: Api, org: str) -> None:
    user_id, email = account(api, org)
    with browser(api, user_id) as here, api.client("") as stranger:
        check_problem(here.post(FACTOR, json={"password": "a guess"}), 401, "wrong_password", "password")
        check_problem(here.post(f"{FACTOR}/confirm", json={"code": "1"}), 409, "second_factor_not_begun")
        assert here.post(FACTOR, json={"password": PASSWORD}).status_code == 201
        check_problem(here.post(f"{FACTOR}/confirm", json={"code": "000000"}), 401, "wrong_code", "code")
        assert login(stranger, email).status_code == 200  # what is not confirmed counts for nothing
        phone, _ = enrolled(api, here)
        check_problem(here.post(FACTOR, json={"password": PASSWORD}), 409, "second_factor_exists")
        proof = {"password": PASSWORD, "code": "000000"}
        check_problem(here.post(f"{FACTOR}/remove", json=proof), 401, "wrong_code", "code")
        assert here.post(f"{FACTOR}/remove", json=proof | {"code": phone.code()}).status_code == 204
        assert login(stranger, email).status_code == 200
        actions = [row["action"] for row in here.get("/api/v1/audit").json()["data"]]
        assert {"second_factor.enrol", "second_factor.remove"} <= set(actions)


def test_guesses_of_a_signed_in_browser_are_paused_too(api: Api, org: str) -> None:
    user_id, _ = account(api, org)
    with browser(api, user_id) as here:
        for _ in range(sign_in_pauses.DEVICE.free):
            check_problem(here.post(FACTOR, json={"password": "a guess"}), 401, "wrong_password", "password")
        check_problem(here.post(FACTOR, json={"password": PASSWORD}), 429, "too_many_sign_ins")


def test_an_organisation_that_requires_one_is_closed_to_people_without(api: Api, org: str) -> None:
    owner_id, _ = account(api, org, "owner", Role.OWNER)
    other_id, _ = account(api, org, "other")
    machine_key = key(api, org)
    required = {"second_factor_required": True}
    with browser(api, owner_id) as owner, browser(api, other_id) as other, api.client(machine_key) as machine:
        refused = owner.patch("/api/v1/organisation", json=required)
        check_problem(refused, 409, "no_second_factor", "second_factor_required")
        enrolled(api, owner)
        assert owner.patch("/api/v1/organisation", json=required).json()["second_factor_required"] is True
        check_problem(other.get("/tasks"), 403, "second_factor_required")
        assert other.get("/api/v1/me").json()["org_id"] is None
        assert owner.get("/tasks").status_code == machine.get("/tasks").status_code == 200
        enrolled(api, other)
        assert other.get("/tasks").status_code == 200
        owner.patch("/api/v1/organisation", json={"second_factor_required": False})
        actions = [row["action"] for row in owner.get("/api/v1/audit").json()["data"]]
        assert actions.count("organisation.require_second_factor") == 2


def test_an_invitation_is_accepted_with_the_code_too(api: Api, org: str, stranger: httpx2.Client) -> None:
    user_id, email = account(api, organisation(api))
    with browser(api, user_id) as here:
        phone, _ = enrolled(api, here)
    with api.client(key(api, org)) as admin:
        token = admin.post("/api/v1/invitations", json={"email": email}).json()["token"]
    accept = {"token": token, "password": PASSWORD}
    needed = stranger.post("/api/v1/invitations/accept", json=accept)
    check_problem(needed, 401, "second_factor_needed", "code")
    joined = stranger.post("/api/v1/invitations/accept", json=accept | {"code": phone.code()})
    assert joined.status_code == 201, joined.text


def test_the_operator_resets_it_and_the_sign_ins_end(api: Api, org: str, stranger: httpx2.Client) -> None:
    user_id, email = account(api, org)
    with browser(api, user_id) as here:
        enrolled(api, here)
        with api.state.store.begin() as tx:
            assert second_factors.remove(tx, user_id, OPERATOR, end_sign_ins=True)
        api.state.forget_callers()
        check_problem(here.get("/tasks"), 401, "session_expired")
    assert login(stranger, email).status_code == 200
