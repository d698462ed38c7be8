"""nara's second way in: a person who signed in, by the cookie of their session."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import httpx2
import pytest

from runyard_common.identity.queries import members
from tests.contract.live import Live
from tests.members import KEPT, PASSWORD

pytestmark = pytest.mark.timeout(180)

Browser = Callable[[str], httpx2.Client]
BODY = {"agentName": "gives", "args": {"value": 7}}


@pytest.fixture
def browser(live: Live) -> Iterator[Browser]:
    """Makes a signed-in browser of a person with this role in the first organisation."""
    opened: list[httpx2.Client] = []

    def sign_in(role: str) -> httpx2.Client:
        email = f"{uuid.uuid4().hex[:8]}@example.com"
        with live.store.begin() as tx:
            user_id = members.insert_person(tx, email, role, KEPT)
            members.add(tx, live.org_id, user_id, role)
        client = live.client("")
        opened.append(client)
        answer = client.post("/api/v1/login", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        client.headers["x-csrf-token"] = answer.json()["csrf_token"]
        return client

    yield sign_in
    for client in opened:
        client.close()


@pytest.mark.parametrize("role", ["admin", "owner"])
def test_the_session_of_an_administrator_runs_and_lists(browser: Browser, role: str) -> None:
    client = browser(role)

    answer = client.post("/api/agent/run", json=BODY)

    assert answer.status_code == 200, answer.text
    assert answer.json()["output"] == 7
    assert {"name": "gives"} in client.get("/api/agent/run").json()["agents"]


def test_the_session_of_a_member_is_403(browser: Browser) -> None:
    client = browser("member")

    for answer in (client.post("/api/agent/run", json=BODY), client.get("/api/agent/run")):
        assert answer.status_code == 403
        assert answer.json()["code"] == "admin_required"


def test_a_session_for_another_organisation_is_refused(browser: Browser, live: Live) -> None:
    org_id, _ = live.new_organisation()

    answer = browser("admin").post("/api/agent/run", json=BODY, headers={"x-org-id": org_id})

    assert answer.status_code == 403
    assert answer.json()["success"] is False


def test_a_session_without_the_csrf_token_runs_nothing(browser: Browser) -> None:
    client = browser("admin")
    del client.headers["x-csrf-token"]

    answer = client.post("/api/agent/run", json=BODY)

    assert answer.status_code == 403
    assert answer.json()["code"] == "csrf_refused"


def test_claims_under_their_other_names_will_do(live: Live) -> None:
    token = live.token(orgId=live.org_id, role="admin")
    with live.client(token) as client:
        assert client.post("/api/agent/run", json=BODY).json()["output"] == 7
