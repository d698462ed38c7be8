"""The appstrate contract: runs and their live streams (contracts' sections 9 and 10), fact by fact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import orjson
import pytest

from tests.contract.appstrate import caller, ended, problem, publish, run_id
from tests.contract.live import Live

pytestmark = pytest.mark.timeout(300)

GIVES = "@default/gives"
RUN_FIELDS = {
    "id", "packageId", "userId", "endUserId", "applicationId", "orgId", "status", "input", "result", "state",
    "error", "tokensUsed", "tokenUsage", "startedAt", "completedAt", "duration", "connectionProfileId",
    "scheduleId", "packageVersionId", "packageVersion", "proxyLabel", "modelLabel", "modelSource", "cost",
    "runNumber", "notifiedAt", "readAt", "metadata",
}  # fmt: skip


class TestRun:
    def test_a_run_has_every_field_of_the_contract(self, live: Live) -> None:
        with caller(live) as client:
            run = ended(client, run_id(client, GIVES, {"value": {"a": 1}}))

        assert run.keys() == RUN_FIELDS
        assert run["packageId"] == GIVES
        assert run["orgId"] == live.org_id
        assert run["status"] == "success"
        assert run["error"] is None
        assert run["completedAt"] > run["startedAt"]
        assert run["duration"] >= 0

    @pytest.mark.parametrize(
        ("value", "result"),
        [
            ({"a": 1}, {"output": {"a": 1}}),
            ("text", {"report": "text"}),
            (None, {}),
            (3, {"output": {"result": 3}}),
        ],
    )
    def test_objects_are_output_and_text_is_the_report(self, live: Live, value: Any, result: Any) -> None:
        with caller(live) as client:
            assert ended(client, run_id(client, GIVES, {"value": value}))["result"] == result

    def test_a_failed_run_shows_why(self, live: Live) -> None:
        with caller(live) as client:
            run = ended(client, run_id(client, "@demo/failer", {"message": "no luck", "code": "out_of_luck"}))

        assert (run["status"], run["error"], run["result"]) == ("failed", "no luck", None)

    def test_runs_of_an_agent_are_numbered(self, live: Live) -> None:
        with caller(live) as client:
            package = publish(client)
            numbers = [
                client.get(f"/api/runs/{run_id(client, package)}").json()["runNumber"] for _ in range(3)
            ]

        assert numbers == [1, 2, 3]

    def test_a_run_that_waits_for_a_person_is_running(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, "@default/asks")
            live.until(id_.removeprefix("exec_"), "waiting_for_input")
            assert client.get(f"/api/runs/{id_}").json()["status"] == "running"
            client.post(f"/api/runs/{id_}/cancel")

    @pytest.mark.parametrize("id_", ["exec_nothing", "exec_018f0000-0000-7000-8000-000000000000", "%27"])
    def test_an_unknown_run_is_404(self, live: Live, id_: str) -> None:
        with caller(live) as client:
            for path in ("", "/logs"):
                problem(client.get(f"/api/runs/{id_}{path}"), 404, "not_found")
            problem(client.post(f"/api/runs/{id_}/cancel"), 404, "not_found")

    def test_another_organisations_run_is_404(self, live: Live) -> None:
        _, key = live.new_organisation()
        with live.client(key) as other, caller(live) as client:
            problem(client.get(f"/api/runs/{run_id(other, publish(other))}"), 404, "not_found")

    def test_a_run_of_another_front_is_visible(self, live: Live) -> None:
        with caller(live) as client:
            task = client.post("/api/v1/agents/gives/run", json={"args": {"value": 1}}).json()
            assert ended(client, f"exec_{task['task_id']}")["status"] == "success"


class TestLogs:
    def test_logs_come_by_id_with_results_and_the_end(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, GIVES, {"value": {"a": 1}})
            ended(client, id_)
            logs = client.get(f"/api/runs/{id_}/logs").json()

        assert [log["id"] for log in logs] == sorted({log["id"] for log in logs})
        assert logs[0].keys() == {
            "id",
            "runId",
            "orgId",
            "type",
            "level",
            "event",
            "message",
            "data",
            "createdAt",
        }
        data = {(log["type"], log["event"]): log["data"] for log in logs}
        assert data["result", "output"] == {"a": 1}
        assert data["result", "result"] == {"output": {"a": 1}}
        assert data["system", "run_completed"] == {"status": "success"}

    def test_a_failure_is_an_adapter_error(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, "@demo/failer", {"message": "no luck"})
            ended(client, id_)
            errors = [log for log in client.get(f"/api/runs/{id_}/logs").json() if log["level"] == "error"]

        assert [(log["type"], log["event"], log["message"]) for log in errors] == [
            ("system", "adapter_error", "no luck")
        ]

    def test_only_administrators_get_debug(self, live: Live) -> None:
        with caller(live) as admin, caller(live, "member") as member:
            id_ = run_id(admin, "@default/narrator")
            ended(admin, id_)
            levels = [
                {log["level"] for log in c.get(f"/api/runs/{id_}/logs").json()} for c in (admin, member)
            ]

        assert "debug" in levels[0]
        assert "debug" not in levels[1]
        assert "info" in levels[1]


class TestCancel:
    def test_a_pending_run_is_cancelled_and_has_a_duration(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, "@default/waits", {"seconds": 60})
            answer = client.post(f"/api/runs/{id_}/cancel")
            run = client.get(f"/api/runs/{id_}").json()

        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        assert run["status"] == "cancelled"
        assert run["error"] == "Cancelled by user"
        assert isinstance(run["duration"], int)
        assert run["completedAt"]

    def test_an_ended_run_is_409(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, GIVES)
            ended(client, id_)
            problem(client.post(f"/api/runs/{id_}/cancel"), 409, "not_cancellable")

    def test_a_viewer_may_not(self, live: Live) -> None:
        with caller(live) as admin, caller(live, "viewer") as viewer:
            problem(viewer.post(f"/api/runs/{run_id(admin, GIVES)}/cancel"), 403, "forbidden")


class TestLists:
    def test_an_agents_runs_newest_first_with_the_total(self, live: Live) -> None:
        with caller(live) as client:
            package = publish(client)
            ids = [run_id(client, package) for _ in range(3)]
            page = client.get(f"/api/agents/{package}/runs?limit=2&offset=1").json()

        assert [run["id"] for run in page["runs"]] == [ids[1], ids[0]]
        assert page["total"] == 3

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "many"])
    def test_a_limit_out_of_range_is_the_default(self, live: Live, limit: str) -> None:
        with caller(live) as client:
            package = publish(client)
            run_id(client, package)
            assert len(client.get(f"/api/agents/{package}/runs?limit={limit}").json()["runs"]) == 1

    def test_user_me_is_what_the_caller_started(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, GIVES)
            mine = client.get("/api/runs?user=me").json()
            everything = client.get("/api/runs").json()

        assert [run["id"] for run in mine["runs"]] == [id_]
        assert everything["total"] > mine["total"] == 1

    def test_an_unknown_agents_runs_are_404(self, live: Live) -> None:
        with caller(live) as client:
            problem(client.get("/api/agents/@no/body/runs"), 404, "agent_not_found")


class TestDelete:
    def test_an_agents_ended_runs_are_deleted(self, live: Live) -> None:
        with caller(live) as client:
            package = publish(client)
            ids = [run_id(client, package) for _ in range(2)]
            for id_ in ids:
                client.post(f"/api/runs/{id_}/cancel")
            answer = client.request("DELETE", f"/api/agents/{package}/runs")

            assert (answer.status_code, answer.json()) == (200, {"deleted": 2})
            problem(client.get(f"/api/runs/{ids[0]}"), 404, "not_found")

    def test_while_one_is_under_way_it_is_409(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, "@default/asks")
            problem(client.request("DELETE", "/api/agents/@default/asks/runs"), 409, "run_in_progress")
            client.post(f"/api/runs/{id_}/cancel")


@contextmanager
def stream(client: httpx2.Client, path: str, **options: Any) -> Iterator[Iterator[tuple[str, Any]]]:
    """The named frames of a live stream: (event, data)."""
    with client.stream("GET", path, **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield frames(answer.iter_lines())


def frames(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Frames from lines, comments left out."""
    event = ""
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data:"):
            data = line.removeprefix("data:").strip()
            yield event, orjson.loads(data) if data else ""
        assert not line.startswith("id:")


class TestRealtime:
    def test_a_ping_comes_at_once_then_the_snapshot_then_what_happens(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, "@default/asks")
            live.until(id_.removeprefix("exec_"), "waiting_for_input")
            with stream(client, f"/api/realtime/runs/{id_}") as seen:
                assert next(seen) == ("ping", "")
                name, snapshot = next(seen)
                assert name == "run_update"
                assert (snapshot["operation"], snapshot["id"], snapshot["status"]) == (
                    "UPDATE",
                    id_,
                    "running",
                )
                client.post(f"/api/runs/{id_}/cancel")
                update = next(data for name, data in seen if name == "run_update")

        assert update.keys() == {
            "operation", "id", "packageId", "status", "userId", "orgId", "scheduleId", "error", "startedAt",
            "completedAt", "duration", "tokensUsed",
        }  # fmt: skip
        assert update["status"] == "cancelled"

    def test_a_run_that_has_ended_is_in_the_snapshot(self, live: Live) -> None:
        with caller(live) as client:
            id_ = run_id(client, GIVES)
            ended(client, id_)
            with stream(client, f"/api/realtime/runs/{id_}") as seen:
                assert [name for name, _ in (next(seen), next(seen))] == ["ping", "run_update"]

    @pytest.mark.parametrize("verbose", [False, True])
    def test_logs_carry_data_only_when_verbose(self, live: Live, verbose: bool) -> None:
        with caller(live) as client:
            query = "?verbose=true" if verbose else ""
            with stream(
                client, f"/api/realtime/agents/{quote('@default/narrator', safe='')}/runs{query}"
            ) as seen:
                assert next(seen)[0] == "ping"
                id_ = run_id(client, "@default/narrator")
                logs: list[Any] = []
                updates: list[Any] = []
                for name, data in seen:
                    (logs if name == "run_log" else updates).append(data)
                    if name == "run_update" and data["status"] == "success":
                        break
                for name, data in seen:
                    logs += [data] if name == "run_log" else []
                    if name == "run_log" and data["event"] == "run_completed":
                        break

        assert {log["runId"] for log in logs} == {id_}
        assert all(("data" in log) is verbose for log in logs)
        assert updates[0]["operation"] == "INSERT"
        assert "result" not in updates[-1]

    def test_all_runs_of_the_organisation_are_followed_with_the_key_in_the_query(self, live: Live) -> None:
        key = live.key_of("member")
        path = f"/api/realtime/runs?token={key}"
        with live.client("") as anonymous, caller(live) as client, stream(anonymous, path) as seen:
            assert next(seen)[0] == "ping"
            id_ = run_id(client, GIVES)
            assert next(data for name, data in seen if name == "run_update" and data["id"] == id_)

    def test_without_credentials_it_is_401(self, live: Live) -> None:
        with live.client("") as anonymous:
            problem(anonymous.get("/api/realtime/runs"), 401, "unauthorized")
            problem(anonymous.get("/api/realtime/runs?token=ask_no"), 401, "unauthorized")
            problem(anonymous.get(f"/api/runs?token={live.key}"), 401, "unauthorized")

    def test_an_unknown_run_or_agent_is_404(self, live: Live) -> None:
        with caller(live) as client:
            problem(client.get("/api/realtime/runs/exec_no"), 404, "not_found")
            problem(client.get("/api/realtime/agents/%40no%2Fbody/runs"), 404, "agent_not_found")
