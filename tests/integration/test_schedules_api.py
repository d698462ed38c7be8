"""Schedules over HTTP, on a real server and both databases: made, refused, changed, triggered, shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx2
import pytest

from runyard_common.identity.queries import identity as identity_store
from runyard_common.identity.rules.roles import Role
from runyard_common.identity.service import identity
from runyard_common.identity.service.identity import KeyRequest
from runyard_common.values.ids import uuid7
from runyard_scheduler.duties import Fire
from tests.api_server import Api

RUN = "/api/v1/agents/@test/echo/run"
MANIFEST = {
    "name": "@test/echo",
    "version": "1.0.0",
    "instructions": "Echo.",
    "input": {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server on each database, without workers: what fires stays pending."""
    url = request.getfixturevalue("migrated_database")() if request.param == "postgres" else ""
    with Api(tmp_path_factory.mktemp("api") / "home", url, max_schedules=60) as server:
        with server.client() as client:
            for manifest in (MANIFEST, {"name": "@test/chat", "instructions": "Chat."}):
                assert client.post("/api/v1/agents/manifests", json=manifest).status_code == 201
        yield server


@pytest.fixture
def client(api: Api) -> Iterator[httpx2.Client]:
    """A client with the admin key, after whose test no schedule is left."""
    with api.client() as client:
        yield client
        while rows := client.get("/v1/schedules", params={"limit": 100}).json()["data"]:
            for row in rows:
                client.delete(f"/v1/schedules/{row['id']}").raise_for_status()


def make(client: httpx2.Client, **changes: Any) -> dict[str, Any]:
    """A schedule, made as asked."""
    body = {"agent": "@test/chat", "schedule": "*/10 * * * *", "run": {"query": "tick"}} | changes
    answer = client.post("/v1/schedules", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/v1/schedules/{answer.json()['id']}"
    made: dict[str, Any] = answer.json()
    return made


def test_a_schedule_is_shown_as_it_was_made(client: httpx2.Client) -> None:
    made = make(
        client, name="Morning", schedule="0 9 * * mon-fri", timezone="Europe/Berlin", overlap="queue",
        catch_up="all", catch_up_window_s=7200, jitter_s=30, end_at="2090-01-01", max_fires=7,
        pause_after_failures=3, metadata={"mine": 1},
        run={"query": "Hello", "callback": {"url": "http://127.0.0.1:8099/x", "headers": {"x-key": "s3cret"}}},
    )  # fmt: skip
    shown = client.get(f"/v1/schedules/{made['id']}").json()
    assert shown == made
    assert "s3cret" not in str(shown)
    wanted = {
        "name": "Morning", "state": "active", "kind": "cron", "schedule": "0 9 * * mon-fri", "fired": 0,
        "timezone": "Europe/Berlin", "agent": "@test/chat", "overlap": "queue", "catch_up": "all",
        "catch_up_window_s": 7200, "jitter_s": 30, "end_at": "2089-12-31T23:00:00.000000Z", "max_fires": 7,
        "pause_after_failures": 3, "metadata": {"mine": 1}, "finished_at": None, "last_due_at": None,
    }  # fmt: skip
    assert {name: shown[name] for name in wanted} == wanted
    assert shown["next_due_at"] < shown["next_run_at"]
    listed = client.get("/v1/schedules", params={"agent": "@test/chat", "state": "active"}).json()
    assert listed["data"] == [made]
    assert client.get("/v1/schedules", params={"state": "finished"}).json()["data"] == []


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"schedule": "61 * * * *"}, "bad_cron", "schedule"),
    ({"schedule": "0 0 30 2 *"}, "cron_never_fires", "schedule"),
    ({"schedule": "* * * * * *"}, "bad_cron", "schedule"),
    ({"schedule": "tomorrow"}, "bad_schedule", "schedule"),
    ({"schedule": ""}, "bad_schedule", "schedule"),
    ({"schedule": "9999-12-31T23:59:59"}, "date_too_far", "schedule"),
    ({"schedule": "9999-12-31"}, "date_too_far", "schedule"),
    ({"schedule": "2020-01-01"}, "date_in_past", "schedule"),
    ({"schedule": "2026-02-30"}, "bad_date", "schedule"),
    ({"schedule": -5}, "bad_delay", "schedule"),
    ({"schedule": 0}, "bad_delay", "schedule"),
    ({"schedule": "-0.5"}, "bad_delay", "schedule"),
    ({"schedule": "NaN"}, "bad_delay", "schedule"),
    ({"schedule": "inf"}, "delay_too_long", "schedule"),
    ({"schedule": 1e300}, "delay_too_long", "schedule"),
    ({"schedule": True}, "invalid_field", "schedule"),
    ({"schedule": None}, "invalid_field", "schedule"),
    ({"schedule": {"every": 5}}, "invalid_field", "schedule"),
    ({"timezone": "Mars/Olympus"}, "bad_timezone", "timezone"),
    ({"timezone": "+02:00"}, "bad_timezone", "timezone"),
    ({"jitter_s": -1}, "bad_jitter", "jitter_s"),
    ({"jitter_s": 1e9}, "bad_jitter", "jitter_s"),
    ({"end_at": "2020-01-01"}, "bad_end", "end_at"),
    ({"end_at": "whenever"}, "bad_end", "end_at"),
    ({"end_at": "9999-99-99"}, "bad_end", "end_at"),
    ({"max_fires": 0}, "bad_count", "max_fires"),
    ({"pause_after_failures": -1}, "bad_count", "pause_after_failures"),
    ({"catch_up_window_s": -1}, "bad_window", "catch_up_window_s"),
    ({"overlap": "never"}, "invalid_field", "overlap"),
    ({"catch_up": "some"}, "invalid_field", "catch_up"),
    ({"agent": "@test/missing"}, "agent_not_found", "agent"),
    ({"agent": "@test/echo", "run": {"args": {"n": "x"}}}, "invalid_input", "run.args.n"),
    ({"run": {}}, "missing_input", "run.query"),
    ({"run": {"query": "x", "version": "^9"}}, "version_not_found", "run.version"),
    (
        {"run": {"query": "x", "schedules": [{"schedule": 5, "message": "y"}]}},
        "bad_schedule",
        "run.schedules",
    ),
    ({"run": {"query": "x", "deadline": "2090-01-01T00:00:00Z"}}, "invalid_deadline", "run.deadline"),
    ({"run": {"query": "x", "callback": {"url": "ftp://x"}}}, "url_refused", "run.callback.url"),
    ({"metadata": {"big": "x" * 20_000}}, "invalid_field", "metadata"),
    ({"every": 5}, "unknown_field", "every"),
]


@pytest.mark.parametrize(("changes", "code", "field"), REFUSED)
def test_what_cannot_be_is_refused_with_what_to_do(
    client: httpx2.Client, changes: dict[str, Any], code: str, field: str
) -> None:
    body = {"agent": "@test/chat", "schedule": "*/10 * * * *", "run": {"query": "tick"}} | changes
    answer = client.post("/v1/schedules", json=body)
    problem = answer.json()
    assert 400 <= answer.status_code < 500
    assert (problem["code"], problem.get("field")) == (code, field), problem
    assert len(problem["detail"]) > 20
    assert client.get("/v1/schedules").json()["data"] == []


def test_numbers_that_json_does_not_have_are_refused(client: httpx2.Client) -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = f'{{"agent": "@test/chat", "schedule": {number}, "run": {{"query": "x"}}}}'
        answer = client.post("/v1/schedules", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, (number, answer.text)


def test_a_run_request_brings_schedules_that_its_answer_names(api: Api, client: httpx2.Client) -> None:
    body = {
        "query": "now", "metadata": {"a": 1}, "session_id": "talk",
        "schedules": [{"schedule": "*/10 * * * *", "message": "later"}, {"schedule": 3600, "message": "once"},
                      {"schedule": "2090-01-01", "message": "far"}],
    }  # fmt: skip
    answer = client.post("/api/v1/agents/@test/chat/run", json=body, headers={"idempotency-key": uuid7()})
    assert answer.status_code == 202, answer.text
    made = answer.json()["schedules"]
    assert [one["kind"] for one in made] == ["cron", "delay", "date"]
    for one, message in zip(made, ("later", "once", "far"), strict=True):
        shown = client.get(f"/v1/schedules/{one['id']}").json()
        assert shown["run"] == {"message": message, "metadata": {"a": 1}, "session_id": "talk"}
        assert shown["agent"] == "@test/chat"
    assert client.delete(f"/v1/schedules/{made[0]['id']}").status_code == 204
    assert client.post(f"/tasks/{made[1]['id']}/cancel").status_code == 204
    assert client.post(f"/tasks/{made[1]['id']}/cancel").status_code == 404
    left = client.get("/v1/schedules").json()["data"]
    assert [one["id"] for one in left] == [made[2]["id"]]


@pytest.mark.parametrize(
    ("schedule", "code"),
    [
        ("0 0 30 2 *", "cron_never_fires"),
        ("9999-01-01", "date_too_far"),
        (-1, "bad_delay"),
        ("nan", "bad_delay"),
    ],
)
def test_a_bad_schedule_in_a_run_request_refuses_the_whole(
    api: Api, client: httpx2.Client, schedule: Any, code: str
) -> None:
    before = api.count_tasks()
    schedules = [{"schedule": 60, "message": "good"}, {"schedule": schedule, "message": "bad"}]
    answer = client.post(RUN, json={"args": {"n": 1}, "schedules": schedules})
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["field"]) == (code, "schedules[1].schedule")
    assert api.count_tasks() == before
    assert client.get("/v1/schedules").json()["data"] == []


def test_beyond_the_bound_neither_schedule_nor_run_is_stored(api: Api, client: httpx2.Client) -> None:
    schedules = [{"schedule": 600, "message": "x"} for _ in range(40)]
    assert client.post(
        "/api/v1/agents/@test/chat/run", json={"query": "x", "schedules": schedules}
    ).is_success
    before = api.count_tasks()
    refused = client.post("/api/v1/agents/@test/chat/run", json={"query": "x", "schedules": schedules})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_schedules")
    assert refused.json()["limit"] == 60
    assert api.count_tasks() == before
    for _ in range(20):
        make(client)
    body = {"agent": "@test/chat", "schedule": 5, "run": {"query": "x"}}
    assert client.post("/v1/schedules", json=body).status_code == 409


def test_the_same_request_with_the_same_key_makes_one_schedule(client: httpx2.Client) -> None:
    body = {"agent": "@test/chat", "schedule": "@daily", "run": {"query": "x"}}
    answers = [
        client.post("/v1/schedules", json=body, headers={"idempotency-key": "once-only"}) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert len(client.get("/v1/schedules").json()["data"]) == 1


def test_changes_count_from_now_and_are_judged_like_new(client: httpx2.Client) -> None:
    made = make(client)
    url = f"/v1/schedules/{made['id']}"
    changed = client.patch(url, json={"schedule": "@yearly", "timezone": "Asia/Tokyo", "name": "n"}).json()
    assert (changed["schedule"], changed["timezone"], changed["name"]) == ("@yearly", "Asia/Tokyo", "n")
    assert changed["next_due_at"].endswith("-12-31T15:00:00.000000Z")
    moved = client.patch(url, json={"timezone": "UTC"}).json()
    assert moved["next_due_at"].endswith("-01-01T00:00:00.000000Z")
    again = client.patch(url, json={"run": {"query": "other", "version": "3.0.0"}, "overlap": "allow"})
    assert again.status_code == 404  # there is no such version of @test/chat
    again = client.patch(url, json={"run": {"query": "other"}, "overlap": "allow"}).json()
    assert (again["run"], again["overlap"], again["schedule"]) == ({"query": "other"}, "allow", "@yearly")
    for bad, code in [
        ({"schedule": "x"}, "bad_schedule"),
        ({"end_at": "2020-01-01"}, "bad_end"),
        ({"schedule": "2020-01-01"}, "date_in_past"),
        ({"timezone": None}, "invalid_field"),
    ]:
        refused = client.patch(url, json=bad)
        assert (refused.status_code, refused.json()["code"]) == (400, code)
    assert client.get(url).json() == again


def test_pause_resume_and_what_they_refuse(client: httpx2.Client) -> None:
    url = f"/v1/schedules/{make(client)['id']}"
    paused = client.post(f"{url}/pause", json={"reason": "holidays"}).json()
    assert (paused["state"], paused["paused_reason"], paused["next_due_at"]) == ("paused", "holidays", None)
    assert client.post(f"{url}/pause").json() == paused
    assert client.patch(url, json={"schedule": "@hourly"}).json()["state"] == "paused"
    resumed = client.post(f"{url}/resume").json()
    assert (resumed["state"], resumed["paused_reason"]) == ("active", None)
    assert resumed["next_due_at"].endswith(":00:00.000000Z")


def test_a_fire_and_a_trigger_show_in_the_history_with_their_tasks(api: Api, client: httpx2.Client) -> None:
    once = make(client, schedule=0.01)
    scheduler = Fire(api.state.store, api.state.rules)
    assert wait_for_fire(scheduler) == 1
    shown = client.get(f"/v1/schedules/{once['id']}").json()
    assert (shown["state"], shown["fired"], shown["next_due_at"]) == ("finished", 1, None)
    (fire,) = client.get(f"/v1/schedules/{once['id']}/fires").json()["data"]
    assert (fire["outcome"], fire["due_at"]) == ("fired", once["next_due_at"])
    assert fire["task"]["task_id"] == fire["task_id"] == shown["last_task_id"]
    task = client.get(f"/v1/tasks/{fire['task_id']}").json()
    assert (task["schedule_id"], task["input"]["message"], task["status"]) == (once["id"], "tick", "pending")

    for path in ("pause", "resume"):
        refused = client.post(f"/v1/schedules/{once['id']}/{path}")
        assert (refused.status_code, refused.json()["code"]) == (409, "schedule_finished")
    busy = client.post(f"/v1/schedules/{once['id']}/trigger")
    assert (busy.status_code, busy.json()["code"]) == (409, "schedule_busy")
    client.patch(f"/v1/schedules/{once['id']}", json={"overlap": "stop_running"}).raise_for_status()
    triggered = client.post(f"/v1/schedules/{once['id']}/trigger")
    assert triggered.status_code == 202, triggered.text
    assert client.get(f"/v1/tasks/{fire['task_id']}").json()["status"] == "stopped"
    page = client.get(f"/v1/schedules/{once['id']}/fires", params={"limit": 1}).json()
    assert page["data"][0]["task_id"] == triggered.json()["task_id"]
    assert page["data"][0]["reason"].startswith("triggered by key:")
    rest = client.get(f"/v1/schedules/{once['id']}/fires", params={"cursor": page["next_cursor"]}).json()
    assert [f["task_id"] for f in rest["data"]] == [fire["task_id"]]


def test_due_times_that_passed_without_a_run_are_made_up_for_once(client: httpx2.Client) -> None:
    made = make(
        client, agent="@test/echo", schedule="0 6 * * *", timezone="Europe/Berlin", run={"args": {"n": 1}}
    )
    path = f"/v1/schedules/{made['id']}/backfill"
    march = {
        "since": "2026-03-28T00:00:00Z",
        "until": "2026-03-31T00:00:00+02:00",
    }  # the clocks shift on the 29th
    shown = client.post(path, json=march | {"dry_run": True})
    local = ["2026-03-28T06:00:00+01:00", "2026-03-29T06:00:00+02:00", "2026-03-30T06:00:00+02:00"]
    assert (shown.status_code, [time["local"] for time in shown.json()["data"]]) == (200, local)
    assert client.get(f"/v1/schedules/{made['id']}/fires").json()["data"] == []

    first = client.post(path, json=march | {"limit": 2})
    assert (first.status_code, first.json()["next_since"]) == (202, "2026-03-30T04:00:00.000000Z")
    rest = client.post(path, json=march).json()
    runs = [*first.json()["data"], *rest["data"]]
    assert ([run["local"] for run in runs], rest["next_since"]) == (local, None)
    assert client.post(path, json=march).json()["data"] == []
    task = client.get(f"/v1/tasks/{runs[0]['task_id']}").json()
    assert (task["schedule_id"], task["input"]["args"]) == (made["id"], {"n": 1})
    assert task["input"]["due_at"] == datetime.fromisoformat(local[0]).timestamp()
    client.post(f"/v1/tasks/{task['task_id']}/cancel").raise_for_status()
    again = client.post(f"/v1/tasks/{task['task_id']}/retry").json()
    assert client.get(f"/v1/tasks/{again['task_id']}").json()["input"]["due_at"] == task["input"]["due_at"]
    fires = client.get(f"/v1/schedules/{made['id']}/fires").json()["data"]
    assert [(fire["outcome"], fire["task_id"]) for fire in fires] == [
        ("backfilled", run["task_id"]) for run in runs[::-1]
    ]
    noted = client.get("/v1/audit", params={"action": "schedule.backfill"}).json()["data"]
    assert [entry["data"]["runs"] for entry in noted if entry["object_id"] == made["id"]] == [1, 2]
    after = client.get(f"/v1/schedules/{made['id']}").json()
    assert [after[name] for name in ("fired", "next_due_at", "last_due_at")] == [0, made["next_due_at"], None]


def test_a_backfill_does_not_count_as_an_earlier_run(client: httpx2.Client) -> None:
    made = make(client, overlap="skip")
    path = f"/v1/schedules/{made['id']}"
    day = {"since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
    found = client.post(f"{path}/backfill", json=day, headers={"Idempotency-Key": "march"}).json()
    assert (len(found["data"]), found["next_since"]) == (100, "2026-03-01T16:40:00.000000Z")
    assert client.post(f"{path}/backfill", json=day, headers={"Idempotency-Key": "march"}).json() == found
    assert client.post(f"{path}/trigger").status_code == 202


def test_a_backfill_is_refused_for_what_is_no_past_or_would_refuse_a_run(client: httpx2.Client) -> None:
    agent = {"name": f"@test/gone-{uuid7()[-6:]}", "instructions": "Go."}
    client.post("/api/v1/agents/manifests", json=agent).raise_for_status()
    path = f"/v1/schedules/{make(client, agent=agent['name'])['id']}/backfill"
    for body, field in (
        ({"since": "2100-01-01T00:00:00Z"}, "since"),
        ({"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "until"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-03-02T00:00:00Z", "limit": 101}, "limit"),
        ({}, "since"),
    ):
        refused = client.post(path, json=body)
        assert (refused.status_code, refused.json()["field"]) == (400, field), refused.text
    assert client.delete(f"/v1/agents/{agent['name']}").is_success
    refused = client.post(path, json={"since": "2026-03-02T00:00:00Z"})
    assert (refused.status_code, refused.json()["code"]) == (404, "agent_not_found")
    assert client.get(path.replace("backfill", "fires")).json()["data"] == []


def wait_for_fire(scheduler: Fire) -> int:
    """Runs that a scheduler makes, once it has something to do."""
    for _ in range(500):
        if made := scheduler.run_once():
            return made
    raise AssertionError("nothing came due")


def test_queued_runs_end_with_their_schedule(api: Api, client: httpx2.Client) -> None:
    made = make(client, overlap="queue")
    url = f"/v1/schedules/{made['id']}"
    first, second = (client.post(f"{url}/trigger").json() for _ in range(2))
    assert (first["status"], second["status"]) == ("pending", "queued")
    waiting = client.get(f"/v1/tasks/{second['task_id']}").json()
    assert waiting["queue"]["limit"] == f"schedule:{made['id']}"
    assert client.delete(url).status_code == 204
    assert client.get(f"/v1/tasks/{first['task_id']}").json()["status"] == "pending"
    assert client.get(f"/v1/tasks/{second['task_id']}").json()["status"] == "stopped"
    assert client.get(url).status_code == client.get(f"{url}/fires").status_code == 404


def test_a_trigger_is_refused_for_what_would_refuse_the_run(client: httpx2.Client) -> None:
    agent = {"name": f"@test/gone-{uuid7()[-6:]}", "instructions": "Go."}
    client.post("/api/v1/agents/manifests", json=agent).raise_for_status()
    made = make(client, agent=agent["name"])
    assert client.delete(f"/v1/agents/{agent['name']}").is_success
    refused = client.post(f"/v1/schedules/{made['id']}/trigger")
    assert (refused.status_code, refused.json()["code"]) == (404, "agent_not_found")
    assert client.get(f"/v1/schedules/{made['id']}/fires").json()["data"] == []


def test_a_preview_marks_what_the_clocks_skip_and_double(client: httpx2.Client) -> None:
    zone = {"timezone": "Europe/Berlin", "count": 7}
    spring = make(client, schedule="2090-03-26T02:30", timezone="Europe/Berlin")
    (moved,) = client.get(f"/v1/schedules/{spring['id']}/preview").json()["data"]
    assert (moved["local"], moved["note"]) == ("2090-03-26T03:00:00+02:00", "skipped local time moved")
    october = client.post("/v1/schedules/preview", json={"schedule": "30 2 25-31 10 *", **zone}).json()[
        "data"
    ]
    assert len(october) == 7
    assert [time["note"] for time in october].count("doubled local time, fires once") == 1
    limited = {"schedule": "@daily", "max_fires": 2, "count": 10}
    assert len(client.post("/v1/schedules/preview", json=limited).json()["data"]) == 2
    for count in (0, 101, -1):
        refused = client.post("/v1/schedules/preview", json={"schedule": "@daily", "count": count})
        assert (refused.status_code, refused.json()["code"]) == (400, "bad_count")
    assert client.get("/v1/schedules/preview").status_code == 405


def test_roles_scopes_and_organisations_keep_to_their_own(api: Api, client: httpx2.Client) -> None:
    made = make(client)
    url = f"/v1/schedules/{made['id']}"

    def key(role: Role, scopes: list[str] | None = None, org: str | None = None) -> str:
        wanted = KeyRequest("k", role, scopes)
        with api.state.store.begin() as tx:
            org_id = org or api.state.org_id
            return identity.create_key(tx, org_id, wanted, "test", Role.OWNER).key

    with api.client(key(Role.VIEWER)) as viewer:
        assert viewer.get(url).status_code == 200
        for method, path in [("POST", "/pause"), ("POST", "/trigger"), ("DELETE", ""), ("PATCH", "")]:
            assert viewer.request(method, url + path, json={}).status_code == 403
    with api.client(key(Role.MEMBER, ["schedules:write", "schedules:read"])) as scoped:
        body = {"agent": "@test/chat", "schedule": 5, "run": {"query": "x"}}
        assert scoped.post("/v1/schedules", json=body).json()["code"] == "missing_permission"
        assert scoped.post(f"{url}/trigger").status_code == 403
        assert scoped.post(f"{url}/pause").status_code == 200
    with api.state.store.begin() as tx:
        other = identity_store.insert_organisation(tx, "other")
    with api.client(key(Role.ADMIN, org=other)) as stranger:
        assert stranger.get("/v1/schedules").json()["data"] == []
        for method, path in [("GET", ""), ("GET", "/fires"), ("GET", "/preview"), ("POST", "/pause"),
                             ("POST", "/resume"), ("POST", "/trigger"), ("DELETE", ""), ("PATCH", "")]:  # fmt: skip
            sent: Any = {} if method == "PATCH" else None
            answer = stranger.request(method, url + path, json=sent)
            assert (answer.status_code, answer.json()["code"]) == (404, "schedule_not_found"), path
        assert stranger.post(f"/tasks/{made['id']}/cancel").status_code == 404


def test_the_pages_of_a_list_hold_every_schedule_once(client: httpx2.Client) -> None:
    ids = [make(client)["id"] for _ in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/v1/schedules", params={"limit": 2, **cursor}).json()
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ids[::-1]
