"""The appstrate contract, section 10: pings after silence, what was missed while connecting, bounds of log frames."""

from __future__ import annotations

import threading
from typing import Any

import httpx2
import pytest

from runyard_api import sse
from runyard_api.surfaces.appstrate.runs import realtime
from runyard_api.surfaces.appstrate.runs.realtime import LARGEST_DATA, LONGEST_MESSAGE, PING_AFTER, log_json
from runyard_api.surfaces.appstrate.runs.runs import task_of
from runyard_common.identity.rules.roles import Role
from runyard_common.runs.service import bulk
from tests.api_server import Api
from tests.contract.appstrate import problem, publish, run_id
from tests.contract.test_appstrate_runs import stream
from tests.members import organisation, person, sign_in

pytestmark = pytest.mark.timeout(180)


def test_the_silence_is_thirty_seconds() -> None:
    assert PING_AFTER == 30.0


def test_a_ping_comes_after_silence_and_again_after_the_next(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime, "PING_AFTER", 0.2)
    with stream(client, "/api/realtime/runs") as seen:
        assert [next(seen) for _ in range(3)] == [("ping", "")] * 3


def test_what_other_agents_do_breaks_no_silence(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime, "PING_AFTER", 0.4)
    mine, other = publish(client), publish(client)
    over = threading.Event()

    def busy() -> None:
        while not over.wait(0.1):
            client.post(f"/api/v1/agents/{other}/run", json={"query": "hi"}).raise_for_status()

    path = f"/api/realtime/agents/{mine.replace('/', '%2F')}/runs"
    with stream(client, path) as seen:
        noise = threading.Thread(target=busy)
        noise.start()
        try:
            assert [next(seen) for _ in range(3)] == [("ping", "")] * 3
        finally:
            over.set()
            noise.join()


def test_what_happens_between_the_snapshot_and_listening_is_sent(
    api: Api, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends after it was read and before the stream listens: no other event would follow."""
    id_ = run_id(client, publish(client))

    async def read_then_cancelled(call: Any) -> Any:
        task = await task_of(call)
        await call.state.write(bulk.cancel, call.org_id, task.id, "Cancelled by user", "system")
        return task

    monkeypatch.setattr("runyard_api.surfaces.appstrate.runs.realtime.task_of", read_then_cancelled)
    with stream(client, f"/api/realtime/runs/{id_}") as seen:
        frames = [next(seen) for _ in range(3)]
    assert [name for name, _ in frames] == ["ping", "run_update", "run_update"]
    assert [data["status"] for _, data in frames[1:]] == ["pending", "cancelled"]


def test_a_revoked_key_is_sent_nothing_more(
    api: Api, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "LOOK_EVERY", 0.1)
    application = client.get("/api/applications").json()["data"][0]["id"]
    made = client.post("/api/api-keys", json={"applicationId": application, "name": "k"}).json()
    with api.client("") as anonymous, stream(anonymous, f"/api/realtime/runs?token={made['key']}") as seen:
        assert next(seen) == ("ping", "")
        assert client.delete(f"/api/api-keys/{made['id']}").status_code == 204
        assert list(seen) == []  # the stream has ended


def test_a_person_names_the_organisation_in_the_query(api: Api) -> None:
    token = sign_in(api, person(api, "tail@example.com", (api.state.org_id, Role.ADMIN))).token
    with api.client("") as browser:
        browser.headers["cookie"] = f"better-auth.session_token={token}"
        with stream(browser, f"/api/realtime/runs?orgId={api.state.org_id}") as seen:
            assert next(seen) == ("ping", "")
        problem(browser.get("/api/realtime/runs"), 400, "invalid_request", "X-Org-Id")
        other = organisation(api)
        problem(browser.get(f"/api/realtime/runs?orgId={other}"), 403, "forbidden")


def test_end_users_follow_their_own_runs_alone(client: httpx2.Client) -> None:
    package = publish(client)
    one, two = (client.post("/api/end-users", json={}).json()["id"] for _ in range(2))
    with stream(client, "/api/realtime/runs", headers={"appstrate-user": one}) as seen:
        assert next(seen) == ("ping", "")
        run_id(client, package, headers={"appstrate-user": two})
        mine = run_id(client, package, headers={"appstrate-user": one})
        assert next(data for name, data in seen if name == "run_update")["id"] == mine
    stranger = client.get(f"/api/realtime/runs/{mine}", headers={"appstrate-user": two})
    problem(stranger, 404, "not_found")


ENTRY = {"id": 10, "runId": "exec_1", "message": "m" * 2001, "data": {"text": "d" * 6000}}


class TestLogFrames:
    def test_a_message_has_2000_characters_at_most(self) -> None:
        assert LONGEST_MESSAGE == 2000
        assert log_json(ENTRY, verbose=True)["message"] == "m" * 2000
        assert log_json(ENTRY | {"message": None}, verbose=True)["message"] is None

    def test_data_comes_only_when_verbose_and_above_6000_bytes_as_a_marker(self) -> None:
        assert LARGEST_DATA == 6000
        assert "data" not in log_json(ENTRY, verbose=False)
        assert log_json(ENTRY, verbose=True)["data"] == {"truncated": True}
        fits = {"text": "d" * (6000 - len('{"text":""}'))}
        assert log_json(ENTRY | {"data": fits}, verbose=True)["data"] == fits
        assert log_json(ENTRY | {"data": {"text": fits["text"] + "d"}}, True)["data"] == {"truncated": True}
