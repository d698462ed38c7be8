"""The appstrate contract: what keeps an agent from running, when it is run and when its schedule is due (3 and 11)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_scheduler.duties import Fire
from tests.api_server import Api
from tests.contract.appstrate import fresh, made, problem, start

PROFILE = "0b0e7f7e-8c1c-4b7e-9a54-0d6c4ab7c2f1"
SCRIPTED = "openai:scripted"
#: What keeps it from running, in the contract's order: the code, and what is wrong with the package.
FAULTS: dict[str, dict[str, Any]] = {
    "empty_prompt": {"content": "  "},
    "missing_skill": {"skills": {"@shop/reading": "^1.0.0"}},
    "missing_tool": {"tools": {"@appstrate/report": "*", "@shop/hammer": "*"}},
    "provider_not_enabled": {"providers": {"@shop/mail": "*"}},
    "config_incomplete": {"config": {"schema": {"properties": {"key": {}}, "required": ["key"]}}},
    "model_not_configured": {"model": None},
}
PARAMS = (
    "prompt",
    "dependencies.skills",
    "dependencies.tools",
    "dependencies.providers",
    "config.key",
    "modelId",
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server without workers and without a model of its own; the one it knows is never asked."""
    home = tmp_path_factory.mktemp("readiness") / "home"
    with Api(home, model="", model_base_url="http://127.0.0.1:9/v1") as server:
        yield server


def package(client: httpx2.Client, *faults: str) -> str:
    """A new agent with these faults; its name."""
    name = fresh("@shop/agent")
    manifest: dict[str, Any] = {"name": name, "version": "1.0.0", "model": SCRIPTED, "dependencies": {}}
    content = "Do it."
    for fault in faults:
        given = dict(FAULTS[fault])
        content = given.pop("content", content)
        manifest |= {key: given.pop(key) for key in ("config", "model") if key in given}
        manifest["dependencies"] |= given
    made(client.post("/api/packages/agents", json={"manifest": manifest, "content": content}))
    return name


@pytest.mark.parametrize(("code", "param"), list(zip(FAULTS, PARAMS, strict=True)))
def test_each_fault_is_400_with_its_code_before_all_later_faults(
    client: httpx2.Client, code: str, param: str
) -> None:
    codes = list(FAULTS)
    for faults in ([code], codes[codes.index(code) :]):
        problem(start(client, package(client, *faults)), 400, code, param)


def test_the_platforms_own_tools_are_no_hindrance(client: httpx2.Client) -> None:
    name = fresh("@shop/agent")
    tools = {"tools": {"@appstrate/output": "^1.0.0", "@appstrate/report": "*"}}
    manifest = {"name": name, "version": "1.0.0", "model": SCRIPTED, "dependencies": tools}
    made(client.post("/api/packages/agents", json={"manifest": manifest, "content": "Do it."}))
    assert start(client, name).status_code == 200


def test_a_model_id_replaces_the_missing_model(client: httpx2.Client) -> None:
    name = package(client, "model_not_configured")
    given = {"input": {}, "modelId": SCRIPTED, "proxyId": "none", "config": {"unknown": "is ignored"}}
    answer = client.post(f"/api/agents/{name}/run", json=given)
    assert answer.status_code == 200, answer.text
    problem(client.post(f"/api/agents/{name}/run", json={"modelId": 7}), 400, "invalid_request", "modelId")


def test_a_model_that_cannot_be_asked_is_not_configured(client: httpx2.Client) -> None:
    name = package(client)
    answer = client.post(f"/api/agents/{name}/run", json={"modelId": "anthropic:without-a-key"})
    problem(answer, 400, "model_not_configured", "modelId")


def test_a_multipart_body_names_no_model(client: httpx2.Client) -> None:
    name = package(client, "model_not_configured")
    form = {"input": (None, "{}"), "modelId": (None, SCRIPTED)}
    problem(client.post(f"/api/agents/{name}/run", files=form), 400, "model_not_configured")


def schedule(client: httpx2.Client, name: str, **more: Any) -> dict[str, Any]:
    """A new schedule of an agent."""
    given = {"connectionProfileId": PROFILE, "cronExpression": "0 9 * * *"} | more
    return made(client.post(f"/api/agents/{name}/schedules", json=given))


class TestSchedules:
    def test_a_schedule_shows_which_providers_its_agent_lacks(self, client: httpx2.Client) -> None:
        not_ready, ready = (schedule(client, package(client, *f)) for f in (["provider_not_enabled"], []))
        assert not_ready["readiness"] == {
            "status": "not_ready",
            "totalProviders": 1,
            "connectedProviders": 0,
            "missingProviders": ["@shop/mail"],
        }
        assert ready["readiness"] == {
            "status": "ready", "totalProviders": 0, "connectedProviders": 0, "missingProviders": [],
        }  # fmt: skip
        for one in (not_ready, ready):
            path = f"/api/schedules/{one['id']}"
            assert client.get(path).json()["readiness"] == one["readiness"]
            assert client.put(path, json={"name": "n"}).json()["readiness"] == one["readiness"]
            assert one["readiness"] in [listed["readiness"] for listed in client.get("/api/schedules").json()]

    def test_a_schedule_has_every_field_of_the_contract(self, client: httpx2.Client) -> None:
        assert schedule(client, package(client)).keys() == {
            "id", "packageId", "connectionProfileId", "orgId", "name", "enabled", "cronExpression", "timezone",
            "input", "lastRunAt", "nextRunAt", "createdAt", "updatedAt", "profileName", "profileType",
            "profileOwnerName", "readiness",
        }  # fmt: skip

    def test_what_is_not_ready_when_it_is_due_is_a_failed_run_that_webhooks_hear_of(
        self, api: Api, client: httpx2.Client
    ) -> None:
        name = package(client, "missing_skill")
        own = schedule(client, name, input={"n": 1})
        hook = {"url": "https://example.com/h", "events": ["run.failed"], "scope": "organization"}
        hook_id = made(client.post("/api/webhooks", json=hook | {"packageId": name}))["id"]
        a_day_later(api)
        page = client.get(f"/api/schedules/{own['id']}/runs").json()
        deliveries = client.get(f"/api/webhooks/{hook_id}/deliveries").json()["data"]

        assert page["total"] == 1
        [run] = page["runs"]
        assert run["id"].startswith("run_")
        assert (run["status"], run["scheduleId"], run["packageId"]) == ("failed", own["id"], name)
        assert "@shop/reading" in run["error"]
        assert client.get(f"/api/runs/{run['id']}").json() == run
        assert [(row["eventType"], row["status"]) for row in deliveries] == [("run.failed", "pending")]
        assert deliveries[0].keys() == {
            "id", "eventId", "eventType", "status", "statusCode", "latency", "attempt", "error", "createdAt",
        }  # fmt: skip
        with api.state.store.read() as conn:
            body = conn.execute(text("SELECT body FROM deliveries WHERE endpoint_id = :id"), {"id": hook_id})
            assert f'"id":"{run["id"]}"' in body.scalar_one()

    def test_input_that_no_longer_fits_when_it_is_due_is_a_failed_run(
        self, api: Api, client: httpx2.Client
    ) -> None:
        name = package(client)
        own = schedule(client, name, input={"n": "seven"})
        manifest = {
            "name": name, "version": "2.0.0", "model": SCRIPTED,
            "input": {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        }  # fmt: skip
        change = {"manifest": manifest, "content": "Do it.", "lockVersion": 1}
        made(client.put(f"/api/packages/agents/{name}", json=change), 200)
        made(client.post(f"/api/packages/agents/{name}/versions"))
        a_day_later(api)
        [run] = client.get(f"/api/schedules/{own['id']}/runs").json()["runs"]
        assert run["status"] == "failed"
        assert "n" in run["error"]
        assert client.get(f"/api/schedules/{own['id']}").json()["lastRunAt"]

    def test_what_is_ready_runs_with_an_id_that_names_the_schedule(
        self, api: Api, client: httpx2.Client
    ) -> None:
        name = package(client)
        own = schedule(client, name, input={"n": 1})
        a_day_later(api)
        [run] = client.get(f"/api/schedules/{own['id']}/runs").json()["runs"]
        assert run["id"].startswith("run_")
        assert (run["status"], run["input"], run["scheduleId"]) == ("pending", {"n": 1}, own["id"])

    @pytest.mark.parametrize("id_", ["sched_00000000-0000-7000-8000-000000000000", "sched_no"])
    def test_an_unknown_schedule_is_404(self, client: httpx2.Client, id_: str) -> None:
        path = f"/api/schedules/{id_}"
        for answer in (
            client.get(path), client.put(path, json={"name": "n"}), client.delete(path), client.get(f"{path}/runs"),
        ):  # fmt: skip
            problem(answer, 404, "not_found", "id")


def a_day_later(api: Api) -> None:
    """Fire what is due by then."""
    assert Fire(api.state.store, api.state.rules).run_once(time.time() + 86_400) >= 1
