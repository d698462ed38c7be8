"""Agents of every front have names that every front's clients can send (case s-06)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import yaml

from runyard import agent
from runyard_api.documents.openapi import _SHAPES
from runyard_common.values import ids
from tests.contract.appstrate import caller, ended, problem, publish, start
from tests.contract.frames import run as run_by_agentbase
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


def test_the_very_name_goes_before_one_that_only_resembles_it(client: httpx2.Client) -> None:
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


#: Names that no path can carry as they are, or that are none.
NONE = (
    "@team/two words", "two words", "@team/a/b", "@team/", "@team/naïve", "@team/a%20b", "@team/a?b", "@team/a#b",
    "@team/a+b", "@team/.hidden", "@team/-x", "@Team/x", "@te am/x", "@team/x\n", " x", "x ", "@team/" + "x" * 129, "",
    "@team/a:b", "@team/a@b", "@team/a\tb",
)  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_a_name_that_no_path_can_carry_is_refused_wherever_an_agent_is_published(
    client: httpx2.Client, name: str
) -> None:
    body = {"name": name, "version": "1.0.0", "instructions": "Do it."}
    as_yaml = {"content-type": "application/yaml"}

    natively = client.post("/api/v1/agents/manifests", json=body)
    in_yaml = client.post("/api/v1/agents/manifests", content=yaml.safe_dump(body), headers=as_yaml)
    package = client.post(
        "/api/packages/agents", json={"manifest": {"name": name, "version": "1.0.0"}, "content": "Do it."}
    )

    for answer in (natively, in_yaml):
        found = answer.json()
        assert (answer.status_code, found["code"], found["field"]) == (400, "invalid_manifest", "name")
        assert "Value error" not in found["detail"]
        assert "up to 128 letters, digits" in found["detail"]
    problem(package, 400, "invalid_request")
    with pytest.raises(ValueError, match="up to 128 letters, digits"):
        agent(name)(_nothing)


async def _nothing(ctx: Any, args: Any) -> None: ...


@pytest.mark.parametrize("name", ["@contract/Odd.Name-1_x", "@contract/9lives", "@a-b/" + "n" * 128])
def test_a_name_that_the_rule_permits_runs_through_every_front(client: httpx2.Client, name: str) -> None:
    listed = {one["name"] for one in client.get("/api/agent/run").json()["agents"]}
    short = next(one for one in listed if ids.normalise(one) == ids.normalise(name))

    natively = client.post(f"/api/v1/agents/{name}/run", json={"args": {}}).json()
    naras = client.post("/api/agent/run", json={"agentName": short, "args": {}}).json()
    nugens = client.post(
        f"/api/v3/agents/run-agents/{ids.normalise(name)}/run", json={"message": "hello"}
    ).json()
    frames = run_by_agentbase(client, "hello", params={"agent": name})
    appstrates = ended(client, start(client, name).json()["runId"])

    task = client.get(f"/tasks/{natively['task_id']}", params={"wait": 20}).json()
    assert (task["status"], task["output"]) == ("completed", {"name": name})
    assert naras["output"] == {"name": name}
    assert json.loads(nugens["response"]) == {"name": name}
    assert json.loads(frames.text()) == {"name": name}
    assert (appstrates["packageId"], appstrates["status"]) == (name, "success")
    assert PATTERN.fullmatch(name)


def test_a_made_agent_keeps_the_scope_of_a_name_that_needs_a_slug(client: httpx2.Client) -> None:
    mark = uuid.uuid4().hex[:6]
    made = client.post("/api/v1/agents", json={"name": f"@team/My Bot {mark}", "system_prompt": "Do it."})

    assert full_name(client, made.json()) == f"@team/my-bot-{mark}"
