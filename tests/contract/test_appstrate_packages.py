"""The appstrate contract: packages and versions, a delivered webhook, health (sections 12 and 14)."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from tests.contract.appstrate import Receiver, caller, fresh, made, problem, run_id, start
from tests.contract.live import Live
from tests.fakes.model_server import reply
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


class TestPackages:
    def make(self, client: httpx2.Client, name: str, version: str = "1.0.0") -> httpx2.Response:
        manifest = {"name": name, "version": version, "type": "agent", "displayName": "Mine", "author": "me"}
        return client.post("/api/packages/agents", json={"manifest": manifest, "content": "Do it."})

    def version(self, client: httpx2.Client, path: str, number: str) -> dict[str, Any]:
        """Change the draft and publish it."""
        read = client.get(path).json()
        manifest = read["manifest"] | {"version": number}
        given = {"manifest": manifest, "content": f"Do {number}.", "lockVersion": read["lockVersion"]}
        made(client.put(path, json=given), 200)
        return made(client.post(f"{path}/versions", json={}))

    def test_it_is_made_read_changed_and_deleted(self, live: Live) -> None:
        name = fresh("@shop/agent")
        path = f"/api/packages/agents/{name}"
        with caller(live) as client:
            saved = made(self.make(client, name))
            problem(self.make(client, name), 409, "conflict")
            read = client.get(path).json()
            change = {"manifest": read["manifest"], "content": "Do more.", "lockVersion": read["lockVersion"]}
            changed = made(client.put(path, json=change), 200)
            problem(client.put(path, json=change), 409, "conflict", "lockVersion")
            again = client.get(path).json()
            listed = {a["id"]: a for a in client.get("/api/agents").json()["agents"]}
            assert client.delete(path).status_code == 204
            problem(client.get(path), 404, "agent_not_found")

        assert saved == {"packageId": name, "lockVersion": 1, "message": saved["message"]}
        assert (read["manifest"]["author"], read["content"]) == ("me", "Do it.")
        assert (changed["lockVersion"], again["content"]) == (2, "Do more.")
        assert (listed[name]["displayName"], listed[name]["source"], listed[name]["scope"]) == (
            "Mine",
            "local",
            "@shop",
        )
        assert listed["@demo/echo"]["source"] == "system"

    def test_the_first_version_is_published_and_the_draft_runs_without_a_version_query(
        self, live: Live
    ) -> None:
        name = fresh("@shop/agent")
        path = f"/api/packages/agents/{name}"
        with caller(live) as client:
            made(self.make(client, name))
            read = client.get(path).json()
            client.put(path, json={"manifest": read["manifest"], "content": "New.", "lockVersion": 1})
            ran = [start(client, f"{name}", params={}).json()["runId"]]
            ran += [
                client.post(f"/api/agents/{name}/run?version={v}").json()["runId"]
                for v in ("1.0.0", "latest")
            ]
            versions = [client.get(f"/api/runs/{id_}").json()["packageVersion"] for id_ in ran]

        assert versions == ["1.0.1", "1.0.0", "1.0.0"]

    def test_versions_are_found_by_number_tag_and_range_and_yanked_ones_by_number_alone(
        self, live: Live
    ) -> None:
        name = fresh("@shop/agent")
        path = f"/api/packages/agents/{name}"
        with caller(live) as client:
            made(self.make(client, name))
            for number in ("1.1.0", "1.2.0", "2.0.0"):
                assert self.version(client, path, number)["version"] == number

            def runs(query: str) -> Any:
                answer = client.post(f"/api/agents/{name}/run", params={"version": query})
                if answer.status_code == 404:
                    problem(answer, 404, "not_found")
                    return None
                return client.get(f"/api/runs/{answer.json()['runId']}").json()["packageVersion"]

            before = [runs(query) for query in ("1.1.0", "^1.0.0", "latest", "~1.1", "3.x", "nope")]
            assert client.delete(f"{path}/versions/1.2.0").status_code == 204
            assert client.delete(f"{path}/versions/2.0.0").status_code == 204
            after = [runs(query) for query in ("1.2.0", "^1.0.0", "latest", ">=2")]
            listed = client.get(f"{path}/versions").json()["versions"]

        assert before == ["1.1.0", "1.2.0", "2.0.0", "1.1.0", None, None]
        assert after == ["1.2.0", "1.1.0", "1.1.0", None]
        assert [(v["version"], v["yanked"]) for v in listed] == [
            ("2.0.0", True), ("1.2.0", True), ("1.1.0", False), ("1.0.0", False),
        ]  # fmt: skip
        assert all(re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", v["integrity"]) for v in listed)

    def test_a_version_is_restored_into_the_draft(self, live: Live) -> None:
        name = fresh("@shop/agent")
        path = f"/api/packages/agents/{name}"
        with caller(live) as client:
            made(self.make(client, name))
            self.version(client, path, "1.1.0")
            assert client.get(f"{path}/versions/info").json()["hasUnpublishedChanges"] is False
            restored = made(client.post(f"{path}/versions/1.0.0/restore"), 200)
            assert client.get(path).json()["content"] == "Do it."
            info = client.get(f"{path}/versions/info").json()

        assert restored["packageId"] == name
        assert (info["latestVersion"], info["hasUnpublishedChanges"]) == ("1.1.0", True)

    def test_while_a_run_is_under_way_nothing_is_changed_or_published(self, live: Live) -> None:
        name, question = fresh("@shop/agent"), fresh("hold")
        path = f"/api/packages/agents/{name}"
        barrier = threading.Event()
        live.model.when(lambda request: question in str(request), replace(reply("done"), hold=barrier))
        with caller(live) as client:
            manifest = {"name": name, "version": "1.0.0", "model": "openai:scripted"}
            made(client.post("/api/packages/agents", json={"manifest": manifest, "content": question}))
            id_ = run_id(client, name)
            change = {"manifest": manifest, "content": "x", "lockVersion": 1}
            refused = [
                client.put(path, json=change),
                client.post(f"{path}/versions", json={"version": "9.0.0"}),
                client.post(f"{path}/versions/1.0.0/restore"),
                client.delete(path),
            ]
            client.post(f"/api/runs/{id_}/cancel")
            barrier.set()

        for answer in refused:
            problem(answer, 409, "agent_in_use")

    def test_the_operators_agents_are_not_changed_here(self, live: Live) -> None:
        with caller(live) as client:
            answer = client.delete("/api/packages/agents/@demo/echo")

            refused = client.post("/api/packages/agents/@demo/echo/versions", json={"version": "9.0.0"})

        problem(answer, 403, "operation_not_allowed")
        problem(refused, 403, "operation_not_allowed")


def test_health_and_the_openapi_document_are_public(live: Live) -> None:
    with live.client("") as anonymous:
        health = anonymous.get("/health")
        document = anonymous.get("/api/openapi.json")

    assert health.status_code == 200
    assert health.json().keys() == {"status", "uptime_ms", "checks"}
    assert health.json()["status"] in ("healthy", "degraded")
    assert "/api/agents/{scope}/{name}/run" in document.json()["paths"]


class TestEndToEnd:
    def test_a_webhook_hears_of_a_run_signed_and_its_delivery_is_listed(self, live: Live) -> None:
        with caller(live) as client, Receiver() as receiver:
            package = "@default/waits"
            given = {
                "url": receiver.url,
                "events": ["run.cancelled"],
                "scope": "organization",
                "packageId": package,
            }
            hook = made(client.post("/api/webhooks", json=given))
            id_ = run_id(client, package, {"seconds": 60})
            client.post(f"/api/runs/{id_}/cancel")
            [(headers, body)] = wait_until(lambda: receiver.calls[:1], seconds=30)

            def delivered() -> list[Any]:
                rows: list[Any] = client.get(f"/api/webhooks/{hook['id']}/deliveries").json()["data"]
                return [row for row in rows if row["status"] == "success"]

            [row] = wait_until(delivered, seconds=30)
            client.delete(f"/api/webhooks/{hook['id']}")

        event = Webhook(hook["secret"]).verify(body, headers)
        assert (event["object"], event["type"], event["apiVersion"]) == (
            "event",
            "run.cancelled",
            "2026-03-21",
        )
        assert event["data"]["object"]["id"] == id_
        assert event["data"]["object"]["status"] == "cancelled"
        assert (row["eventId"], row["eventType"], row["statusCode"]) == (event["id"], "run.cancelled", 200)
