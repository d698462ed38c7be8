"""A person sees where they are signed in, and ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_api.access.sign_in_attempts import SignInAttempts
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import logins
from tests.api_server import Api
from tests.members import PASSWORD, browser, person, sign_in
from tests.problems import check_problem

SIGN_INS = "/api/v1/me/sign-ins"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server on each database."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    with Api(tmp_path_factory.mktemp("api") / "home", url) as server:
        yield server


def account(api: Api, name: str) -> str:
    return person(api, f"{name}@example.com", (api.state.org_id, Role.ADMIN))


def listed(client: httpx2.Client) -> list[dict[str, Any]]:
    answer = client.get(SIGN_INS)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_each_sign_in_is_shown_with_its_address_its_browser_and_its_last_use(api: Api) -> None:
    account(api, "shown")
    api.state.sign_ins = SignInAttempts("")
    with api.client("") as client:
        body = {"email": "shown@example.com", "password": PASSWORD}
        me = client.post("/api/v1/login", json=body, headers={"user-agent": "Heron/1.0"}).json()
        (mine,) = listed(client)
        assert (mine["address"], mine["agent"], mine["current"]) == ("127.0.0.1", "Heron/1.0", True)
        with browser(api, me["person"]["id"]) as other:
            assert [row["current"] for row in listed(other)] == [True, False]
        with api.state.store.begin() as tx:
            query = text(
                "UPDATE logins SET last_used_at = last_used_at - 3600, created_at = created_at - 7200"
            )
            tx.conn.execute(query)
        assert client.get("/api/v1/me").status_code == 200
        asyncio.run_coroutine_threadsafe(api.state._note_use(), api.state.loop).result(50)
        old, used = sorted(listed(client), key=lambda row: row["last_used_at"])
        assert (old["current"], used["current"]) == (False, True)
        assert old["created_at"] < old["last_used_at"] < used["last_used_at"]


def test_one_is_ended_wherever_its_cookie_is(api: Api) -> None:
    user_id = account(api, "one")
    with browser(api, user_id) as here, browser(api, user_id) as there:
        (wanted,) = [row["id"] for row in listed(here) if not row["current"]]
        assert there.get("/tasks").status_code == 200
        assert here.delete(f"{SIGN_INS}/{wanted}").status_code == 204
        check_problem(there.get("/tasks"), 401, "session_expired")
        check_problem(here.delete(f"{SIGN_INS}/{wanted}"), 404, "sign_in_not_found", "sign_in_id")
        assert [row["current"] for row in listed(here)] == [True]
        entry = here.get("/api/v1/audit", params={"action": "sign_in.revoke"}).json()["data"][0]
        assert (entry["object_id"], entry["data"]) == (user_id, {"sign_in": wanted})


def test_all_others_are_ended_and_no_other_persons(api: Api) -> None:
    user_id, stranger_id = account(api, "all"), account(api, "stranger")
    with browser(api, user_id) as here, browser(api, user_id) as there, browser(api, stranger_id) as stranger:
        (theirs,) = listed(stranger)
        check_problem(here.delete(f"{SIGN_INS}/{theirs['id']}"), 404, "sign_in_not_found", "sign_in_id")
        assert here.delete(SIGN_INS).status_code == 204
        check_problem(there.get("/tasks"), 401, "session_expired")
        assert stranger.get("/tasks").status_code == 200
        assert len(listed(here)) == 1


def test_a_key_has_no_sign_ins(api: Api) -> None:
    with api.client() as machine:
        assert listed(machine) == []
        check_problem(machine.delete(SIGN_INS), 403, "missing_permission")


def test_a_person_has_so_many_at_most_and_the_oldest_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "MOST", 3)
    user_id = account(api, "many")
    first = sign_in(api, user_id)
    with browser(api, user_id) as client:
        for _ in range(2):
            sign_in(api, user_id)
        assert len(listed(client)) == 3
        gone = client.get("/tasks", headers={"cookie": f"runyard_session={first.token}"})
        check_problem(gone, 401, "session_expired")
