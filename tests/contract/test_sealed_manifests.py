"""What manifests hold is sealed at rest, and no route shows it to a caller who may not know it.

The routes are those the server has, so a new one is tried without being written down here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_api.http.operations import Operation
from runyard_common.agents.queries import agents as store
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import manifests
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.credentials.rules.documents import SEALED
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.rows import OrgScope
from runyard_common.identity.rules.roles import Role
from runyard_workers.agent_code import catalogue
from tests import security
from tests.api_server import Api
from tests.members import key, organisation
from tests.security import OPERATIONS, World, name_of

READS = [operation for operation in OPERATIONS if operation.method == "GET" and operation.permission]
SHARED: dict[str, Any] = {
    "name": "@sec/shared",
    "description": "Open to all.",
    "instructions": "HIDDEN-PROMPT",
    "demonstrations": [{"user_input": "HIDDEN-DEMO", "model_output": "x"}],
    "tools": ["HIDDEN_TOOL", {"name": "x", "description": "HIDDEN-TOOL-TEXT"}],
    "review": ["HIDDEN_REVIEW"],
    "mcp_servers": [
        {
            "serverName": "HIDDEN-SERVER",
            "serverUrl": "https://HIDDEN-HOST.example.com/mcp?key=HIDDEN-KEY",
            "auth": {"type": "bearer", "token": "HIDDEN-TOKEN"},
            "headers": {"X-Key": "HIDDEN-HEADER"},
        }
    ],
    "config": {
        "HIDDEN_NAME": {"password": "HIDDEN-PASSWORD"},
        "mcp_servers": [{"name": "c", "url": "https://HIDDEN-C.example.com", "auth": "HIDDEN-C-TOKEN"}],
        "appstrate": {"name": "@sec/shared", "HIDDEN_FIELD": 1},
        "system_prompt": "HIDDEN-SYSTEM",
    },
    "keywords": ["HIDDEN-WORD"],
    "dependencies": {"skills": {"HIDDEN-SKILL": "*"}},
    "input": {"schema": {"type": "object", "properties": {"city": {"type": "string"}}}, "HIDDEN": 1},
    "output": {"schema": {"type": "object", "title": "Open"}},
}
OWN: dict[str, Any] = {
    "name": "@own/bot",
    "instructions": "Mine.",
    "mcp_servers": [
        {
            "serverName": "orders",
            "serverUrl": "https://orders.example.com/mcp",
            "auth": {"type": "bearer", "token": "SECRET-TOKEN"},
            "headers": {"X-Key": "SECRET-HEADER"},
        }
    ],
    "config": {"smtp": {"password": "SECRET-PASSWORD"}, "note": "open"},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server whose operator publishes `SHARED` for everybody."""
    home = tmp_path_factory.mktemp("sealed") / "home"
    with Api(
        home, model="openai:scripted", model_base_url="http://127.0.0.1:9/v1", wait_seconds=0.1
    ) as server:
        state = server.state
        catalogue.publish(state.store, state.org_id, [], [parse(SHARED)], state.rules.publishing)
        yield server


@pytest.fixture(scope="module")
def world(api: Api) -> World:
    """Another organisation, with one object of each kind and a run of the shared agent."""
    made = security.populate(api, organisation(api, "tenant"))
    with api.client(made.key) as client:
        task = client.post("/api/v1/agents/@sec/shared/run", json={"query": "x"})
        assert task.status_code == 202, task.text
        shared = client.get("/api/v1/agents/@sec/shared").json()
    ids = made.ids | {
        "agent": "@sec%2Fshared", "agent_id": shared["agent_group_id"], "agent_name": "sec_shared", "scope": "@sec",
        "name": "shared", "package": "@sec%2Fshared", "package_name": "@sec/shared",
        "task_id": task.json()["task_id"], "run_id": task.json()["task_id"],
    }  # fmt: skip
    return World(api, made.org_id, made.key, made.stranger, ids)


@pytest.fixture(scope="module", params=[Role.VIEWER, Role.ADMIN])
def client(request: pytest.FixtureRequest, api: Api, world: World) -> Iterator[httpx2.Client]:
    with api.client(key(api, world.org_id, request.param)) as client:
        yield client


def _text(client: httpx2.Client, world: World, operation: Operation) -> str:
    with client.stream("GET", world.url(operation), timeout=5) as answer:
        if "event-stream" in answer.headers.get("content-type", ""):
            try:
                return next(answer.iter_text(), "")
            except httpx2.ReadTimeout:
                return ""  # nothing happens in it
        return answer.read().decode("utf-8", "replace")


@pytest.mark.parametrize("operation", READS, ids=name_of)
def test_of_a_shared_agent_no_route_shows_other_tenants_more_than_its_outside(
    client: httpx2.Client, world: World, operation: Operation
) -> None:
    shown = _text(client, world, operation)
    at = shown.find("HIDDEN")
    assert at < 0, shown[max(0, at - 60) : at + 60]


def test_its_name_description_version_and_schemas_are_shown(client: httpx2.Client) -> None:
    shown = client.get("/api/v1/agents/@sec/shared").json()
    assert shown["manifest"] == {
        "name": "@sec/shared", "version": "1.0.0", "kind": "declared", "description": "Open to all.",
        "functional": True, "input": {"schema": SHARED["input"]["schema"]}, "output": SHARED["output"],
    }  # fmt: skip
    assert shown["config"] == {}


def test_the_operator_itself_sees_it_whole_but_for_credentials(api: Api) -> None:
    with api.client() as own:
        shown = own.get("/api/v1/agents/@sec/shared")
    assert shown.json()["manifest"]["instructions"] == "HIDDEN-PROMPT"
    for credential in ("HIDDEN-KEY", "HIDDEN-TOKEN", "HIDDEN-HEADER", "HIDDEN-PASSWORD", "HIDDEN-C-TOKEN"):
        assert credential not in shown.text


def _publish(client: httpx2.Client, **changes: Any) -> httpx2.Response:
    return client.post("/api/v1/agents/manifests", json=OWN | changes)


def test_credentials_are_neither_in_the_answers_nor_in_the_database(api: Api, world: World) -> None:
    with api.client(world.key) as client:
        made = _publish(client)
        assert made.status_code == 201, made.text
        read = client.get("/api/v1/agents/@own/bot")
    assert "SECRET-" not in made.text + read.text
    assert read.json()["manifest"]["mcp_servers"][0]["auth"] == {"type": "bearer", "token": SEALED}
    with api.state.store.read() as conn:
        rows = conn.execute(text("SELECT manifest FROM agent_versions")).scalars().all()
    assert "SECRET-" not in "".join(rows)
    stored = b"".join(file.read_bytes() for file in api.settings.home.glob("runyard.db*"))
    assert b"SECRET-" not in stored


def test_the_same_content_again_changes_nothing_and_another_credential_is_other_content(
    api: Api, world: World
) -> None:
    with api.client(world.key) as client:
        first, again = _publish(client), _publish(client)
        assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
        other = _publish(client, config=OWN["config"] | {"smtp": {"password": "SECRET-OTHER"}})
        assert (other.status_code, other.json()["code"]) == (409, "version_exists")


def test_a_manifest_read_and_published_again_keeps_what_was_not_changed(api: Api, world: World) -> None:
    with api.client(world.key) as client:
        read = _publish(client).json()["manifest"]
        assert (
            client.post("/api/v1/agents/manifests", json=read).status_code == 201
        )  # the same: nothing happens
        read |= {"version": "1.1.0", "instructions": "Still mine."}
        read["config"]["smtp"]["password"] = "SECRET-NEW"
        made = client.post("/api/v1/agents/manifests", json=read)
        assert made.status_code == 201, made.text
        kept = _opened(api, made.json()["id"])
        assert kept["mcp_servers"] == OWN["mcp_servers"]
        assert kept["config"]["smtp"]["password"] == "SECRET-NEW"


def test_a_kept_credential_is_not_sent_to_another_address(api: Api, world: World) -> None:
    with api.client(world.key) as client:
        read = _publish(client).json()["manifest"]
        read["version"] = "6.6.6"
        read["mcp_servers"][0]["serverUrl"] = "https://elsewhere.example.net/mcp"
        answer = client.post("/api/v1/agents/manifests", json=read)
    assert (answer.status_code, answer.json()["code"]) == (400, "credential_missing")
    assert answer.json()["field"].startswith("mcp_servers[0].")


def test_a_draft_keeps_the_credentials_of_its_config(api: Api, world: World) -> None:
    config = {"smtp": {"password": "SECRET-DRAFT", "port": 25}}
    with api.client(world.key) as client:
        made = client.post("/api/v1/agents", json={"name": "drafted", "config": config}).json()
        assert made["config"]["smtp"] == {"password": SEALED, "port": 25}
        shown = made["config"] | {"greeting": "Hello."}
        changed = client.patch(f"/api/v1/agents/{made['id']}", json={"config": shown})
        assert changed.status_code == 200, changed.text
        assert client.post(f"/api/v1/agents/{made['id']}/versions/publish").status_code == 200
        again = client.patch("/api/v1/agents/drafted", json={"system_prompt": "x"})
    for version in (changed, again):
        assert "SECRET-" not in version.text
        assert _opened(api, version.json()["id"])["config"]["smtp"]["password"] == "SECRET-DRAFT"


def test_a_package_keeps_its_credentials_through_drafts_versions_and_restoring(
    api: Api, world: World
) -> None:
    name = "@own/package"
    manifest = {
        "name": name,
        "version": "1.0.0",
        "config": {"apiKey": "SECRET-KEY"},
        "clientSecret": "SECRET-SENT",
    }
    url = f"/api/packages/agents/{name}"
    with api.client(world.key) as client:
        made = client.post("/api/packages/agents", json={"manifest": manifest, "content": "x"})
        assert made.status_code == 201, made.text
        read = client.get(url).json()
        assert (read["manifest"]["config"], read["manifest"]["clientSecret"]) == ({"apiKey": SEALED}, SEALED)
        for content in ("y", "z"):
            change = {"manifest": read["manifest"], "content": content, "lockVersion": read["lockVersion"]}
            assert client.put(url, json=change).status_code == 200
            read = client.get(url).json()
        version = client.post(f"{url}/versions", json={"version": "2.0.0"})
        assert version.status_code == 201, version.text
        assert client.post(f"{url}/versions/1.0.0/restore").status_code == 200
        draft = client.get(url)
    assert "SECRET-" not in draft.text
    for found in (version.json()["id"], _draft(api, world.org_id, name)):
        config = _opened(api, found)["config"]
        assert (config["apiKey"], config["appstrate"]["clientSecret"]) == ("SECRET-KEY", "SECRET-SENT")


def test_the_credentials_in_the_address_of_a_requests_server_are_sealed(api: Api, world: World) -> None:
    server = {"serverName": "s", "serverUrl": "https://s.example.com/mcp?api_key=SECRET-QUERY"}
    with api.client(world.key) as client:
        answer = client.post("/api/v1/agents/@own/bot/run", json={"query": "x", "mcp_servers": [server]})
        task = client.get(f"/tasks/{answer.json()['task_id']}")
    assert "SECRET-" not in task.text
    assert f"api_key={SEALED}" in task.text


def test_metadata_of_a_datastore_is_sealed_under_every_name(api: Api, world: World) -> None:
    meta = {
        "connectionString": "postgresql://u:SECRET-P@db.example.com/x",
        "pw": "SECRET-PW",
        "odd": ["SECRET-ODD"],
    }
    with api.client(world.key) as client:
        made = client.post("/create-datastore", json={"name": "d", "type": "database", "metadata": meta})
        assert made.status_code == 200, made.text
    with api.state.store.read() as conn:
        row = conn.execute(text("SELECT * FROM datastores WHERE name = 'd'")).mappings().one()
    assert "SECRET" not in str(dict(row))
    assert api.state.sealer.open(row["secrets"]) == {"pw": "SECRET-PW", "odd": ["SECRET-ODD"]}


def test_a_manifest_sealed_with_the_key_before_is_read_and_kept_with_the_new_one() -> None:
    old, new = new_key(), new_key()
    row = manifests.sealed(OWN, PublishRules(Sealer(old)))
    rules = PublishRules(Sealer(f"{new},{old}"))
    assert manifests.is_same(row, OWN, rules)
    again = manifests.sealed(manifests.kept(row.manifest, [row], rules), rules)
    assert manifests.opened(again, Sealer(new)) == OWN


def _opened(api: Api, version_id: str) -> dict[str, Any]:
    with api.state.store.read() as conn:
        row = store.version(conn, version_id)
    assert row is not None
    return manifests.opened(row, api.state.sealer)


def _draft(api: Api, org_id: str, name: str) -> str:
    with api.state.store.read() as conn:
        agent = store.by_name(OrgScope(conn, org_id), name)
        assert agent is not None
        return next(v.id for v in store.versions(conn, agent.id) if v.status == "draft")
