"""Agents of every front have names that every front's clients can send (case s-06)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from runyard_api.documents.openapi import _SHAPES
from tests.contract.appstrate import caller, ended, problem, publish, start
from tests.contract.live import Live

pytestmark = pytest.mark.timeout(300)

#: What the published client of appstrate takes for an agent's name.
CLIENTS = re.compile(r"@[a-z0-9-]+/[a-z0-9-]+")
PATTERN = re.compile(_SHAPES["agent"]["pattern"])


@pytest.fixture
def client(live: Live) -> Iterator[httpx2.Client]:
    """A client with a key of its own, so that no test meets another's rate limits."""
    with caller(live) as client:
        yield client


@pytest.mark.parametrize(
    "name", ["@default/support-triage", "@default/support_triage", "@default/Support-Triage"]
)
def test_an_agent_runs_by_its_name_with_hyphens_too(client: httpx2.Client, name: str) -> None:
    answer = start(client, name, {"ticketId": "T", "priority": "low"})

    assert answer.status_code == 200, answer.text
    run = ended(client, answer.json()["runId"])
    assert (run["packageId"], run["status"]) == ("@default/support_triage", "success")


def test_the_other_routes_of_a_package_know_that_name_too(client: httpx2.Client) -> None:
    listed = client.get("/api/agents/@default/support-triage/runs")

    assert listed.status_code == 200
    assert client.get("/api/agents/@default/support-triage/schedules").status_code == 200
    assert client.get("/api/v1/agents/@default/support-triage").status_code == 200


def test_the_very_name_stands_before_one_that_only_resembles_it(client: httpx2.Client) -> None:
    scope = f"@s{uuid.uuid4().hex[:8]}"
    for name in ("a_b", "a-b"):
        manifest = {"name": f"{scope}/{name}", "version": "1.0.0", "instructions": "Do it."}
        assert client.post("/api/v1/agents/manifests", json=manifest).status_code == 201

    found = [client.get(f"/api/v1/agents/{scope}/{name}").json() for name in ("a_b", "a-b")]

    assert found[0]["agent_group_id"] != found[1]["agent_group_id"]


def test_the_scope_must_be_the_agents_own(client: httpx2.Client) -> None:
    problem(start(client, "@elsewhere/support-triage"), 404, "agent_not_found")


def test_another_organisations_agent_is_not_found_by_it(client: httpx2.Client, live: Live) -> None:
    package = publish(client)
    _, key = live.new_organisation()
    with live.client(key) as stranger:
        problem(start(stranger, package.replace("-", "_")), 404, "agent_not_found")


NAMES = {
    "Invoice Extractor (EU) – Größe": "invoice-extractor-eu-grosse",
    "Ångström & Søn": "angstrom-son",
    "UPPER Case.v2": "upper-case.v2",
    "  two   blanks  ": "two-blanks",
}


@pytest.mark.parametrize(("name", "expected"), list(NAMES.items()))
def test_an_agent_made_by_any_front_has_a_slug_for_a_full_name(
    client: httpx2.Client, live: Live, name: str, expected: str
) -> None:
    mark = uuid.uuid4().hex[:6]
    made = client.post("/api/v1/agents", json={"name": f"{name} {mark}", "system_prompt": "Do it."}).json()

    assert made["name"] == f"{name} {mark}"
    assert full_name(client, made) == f"@default/{expected}-{mark}"
    appstrates = f"@default/{expected}-{mark}".replace(".", "-")
    assert CLIENTS.fullmatch(appstrates)
    assert client.get(f"/api/packages/agents/{appstrates}").status_code == 200


def full_name(client: httpx2.Client, made: dict[str, Any]) -> str:
    return str(client.get(f"/api/v1/agents/{made['id']}").json()["full_name"])


def test_every_full_name_of_an_agent_that_was_made_is_one_that_the_document_permits(live: Live) -> None:
    _, key = live.new_organisation()
    with live.client(key) as client:
        client.post("/api/v1/agents", json={})
        client.post("/api/v1/agents", json={"name": "Invoice Extractor (EU) – Größe"})
        body = {"agent_name": "Other Bot", "agent_description": "d", "model": "openai:scripted"}
        client.post("/api/v3/agents/create", json=body)
        listed = client.get("/api/agents").json()["agents"]

    own = [agent["id"] for agent in listed if agent["source"] == "local"]
    assert len(own) == 3
    assert [name for name in own if not PATTERN.fullmatch(name) or name != name.lower()] == []
