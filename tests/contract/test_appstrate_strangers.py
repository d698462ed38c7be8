"""The appstrate front to another organisation: every route that names an object answers that it does not exist."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_api.fronts import operations
from runyard_api.surfaces.appstrate.front import APPSTRATE
from tests.contract.appstrate import caller, fresh, made, problem, run_id
from tests.contract.live import Live

pytestmark = pytest.mark.timeout(300)

PROFILE = "0b0e7f7e-8c1c-4b7e-9a54-0d6c4ab7c2f1"


def objects(live: Live, name: str) -> dict[str, str]:
    """One object of each kind in the first organisation, by placeholder."""
    with caller(live) as client:
        manifest = {"name": name, "version": "1.0.0"}
        made(client.post("/api/packages/agents", json={"manifest": manifest, "content": "x"}))
        schedule = {"connectionProfileId": PROFILE, "cronExpression": "0 0 1 1 *"}
        hook = {"url": "https://example.com/hook", "events": ["run.failed"], "scope": "organization"}
        application = made(client.post("/api/applications", json={"name": "shop"}))["id"]
        key = {"applicationId": application, "name": "k"}
        scope, _, bare = name.partition("/")
        return {
            "scope": scope, "name": bare, "package": name.replace("/", "%2F"), "version": "1.0.0",
            "run_id": run_id(client, name), "application_id": application,
            "schedule_id": made(client.post(f"/api/agents/{name}/schedules", json=schedule))["id"],
            "webhook_id": made(client.post("/api/webhooks", json=hook))["id"],
            "end_user_id": made(client.post("/api/end-users", json={"name": "A"}))["id"],
            "key_id": made(client.post("/api/api-keys", json=key))["id"],
        }  # fmt: skip


def test_another_organisations_objects_are_404_on_every_route(live: Live) -> None:
    name = fresh("@shop/agent")
    ids = objects(live, name)
    by_operation: dict[str, Any] = {
        "create_agent_schedule": {"connectionProfileId": PROFILE, "cronExpression": "0 0 1 1 *"},
        "change_package": {"manifest": {"name": name}, "content": "x", "lockVersion": 1},
    }
    _, key = live.new_organisation()
    tried = 0
    with live.client(key) as stranger:
        for operation in operations():
            if operation.front is not APPSTRATE or "{" not in operation.path:
                continue
            url = operation.paths[0].replace(":agent}", "}").format(**ids)
            given = (
                {}
                if operation.method in ("GET", "DELETE")
                else {"json": by_operation.get(operation.handler.__name__, {})}
            )
            answer = stranger.request(operation.method, url, **given)
            assert answer.status_code == 404, (operation.name, answer.status_code, answer.text)
            problem(answer, 404, answer.json()["code"])
            tried += 1
    assert tried >= 30

    with caller(live) as client:
        assert client.get(f"/api/webhooks/{ids['webhook_id']}").status_code == 200
        client.delete(f"/api/webhooks/{ids['webhook_id']}")
