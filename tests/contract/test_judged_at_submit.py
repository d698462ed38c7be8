"""What can be judged when a run is asked for is refused then, with the caller's own field (case s-13)."""

from __future__ import annotations

import uuid
from typing import Any

import httpx2
import pytest

from tests.contract.live import Live
from tests.fakes.model_server import reply
from tests.ports import free_port

pytestmark = pytest.mark.timeout(300)

STEP = {"id": "s", "name": "s", "description": "d", "depends_on": []}
FLOW = {"id": "w", "name": "w", "description": "d", "steps": [STEP]}
SERVER = {"serverName": "crm", "serverUrl": "https://example.com/mcp"}
QUERY = {"name": "getUserById", "description": "One.", "query": "SELECT * FROM users WHERE id = ?"}
THE_PAGES = {"id": "ds_1234567890abcdef", "name": "my-datastore"}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a datastore that is not there": ({"datastores": [THE_PAGES]}, "datastore_not_found", "datastores[0].id"),
    "queries without datastores": ({"queries": [QUERY]}, "invalid_options", "queries"),
    "a query of white space": (
        {"queries": [QUERY | {"query": " "}], "datastores": [THE_PAGES]}, "invalid_query", "queries[0].query",
    ),
    "two MCP servers of one name": (
        {"mcp_servers": [SERVER, SERVER | {"serverUrl": "https://example.com/other"}]},
        "invalid_mcp_server",
        "mcp_servers[1].serverName",
    ),
    "an MCP server without a name": (
        {"mcp_servers": [SERVER | {"serverName": " "}]}, "invalid_mcp_server", "mcp_servers[0].serverName",
    ),
    "a specialist without a name": (
        {"agents": [{"name": " ", "description": "d"}]}, "invalid_agent", "agents[0].name",
    ),
    "two workflows of one id": ({"workflows": [FLOW, FLOW]}, "invalid_workflow", "workflows[1].id"),
    "a schema that lies elsewhere": (
        {"final_output": {"name": "f", "schema": {"$ref": "http://h/s.json"}}}, "invalid_schema", "final_output.schema",
    ),
}  # fmt: skip


def published(admin: httpx2.Client) -> str:
    """A new declared agent; its name."""
    manifest = {"name": f"@submit/{uuid.uuid4().hex[:8]}", "version": "1.0.0", "instructions": "Do it."}
    admin.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
    return str(manifest["name"])


def newest(admin: httpx2.Client) -> Any:
    return admin.get("/api/v1/tasks", params={"limit": 1}).json()["data"]


@pytest.mark.parametrize("case", list(REFUSED))
@pytest.mark.parametrize("background", [False, True])
def test_agentbase_refuses_it_with_400_and_queues_nothing(
    admin: httpx2.Client, case: str, background: bool
) -> None:
    given, code, field = REFUSED[case]
    before = newest(admin)

    answer = admin.post("/", json={"message": "m", "background": background} | given)

    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, code, field)
    assert answer.json()["error"]
    assert "x-should-retry" not in answer.headers
    assert newest(admin) == before


@pytest.mark.parametrize("case", list(REFUSED))
def test_natively_it_is_refused_too_and_by_a_trial_as_well(admin: httpx2.Client, case: str) -> None:
    given, code, field = REFUSED[case]
    name, before = published(admin), newest(admin)

    for parameters in ({}, {"dry_run": "true"}):
        answer = admin.post(f"/api/v1/agents/{name}/run", json={"query": "m"} | given, params=parameters)
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, code, field)

    assert newest(admin) == before


def test_another_organisations_datastore_is_not_there(admin: httpx2.Client, live: Live) -> None:
    _, key = live.new_organisation()
    with live.client(key) as other:
        theirs = other.post("/create-datastore", json={"name": "d", "type": "documents"}).json()[
            "datastore_id"
        ]

    answer = admin.post("/", json={"message": "m", "datastores": [{"id": theirs, "name": "d"}]})

    assert (answer.status_code, answer.json()["code"]) == (400, "datastore_not_found")


def test_queries_need_a_database_among_the_datastores(admin: httpx2.Client) -> None:
    made = admin.post("/create-datastore", json={"name": "d", "type": "documents"}).json()["datastore_id"]
    stores = [{"id": made, "name": "d"}]

    for query, field in ((QUERY, "queries[0]"), (QUERY | {"datastore": "else"}, "queries[0].datastore")):
        body = {"query": "m", "datastores": stores, "queries": [query]}
        answer = admin.post(f"/api/v1/agents/{published(admin)}/run", json=body)
        found = answer.json()
        assert (answer.status_code, found["code"], found["field"]) == (400, "datastore_not_found", field)


@pytest.mark.parametrize("name", ["no-such-file.db", "folder/none.db"])
def test_a_sqlite_datastore_whose_file_is_not_there_is_not_made(admin: httpx2.Client, name: str) -> None:
    body = {"name": "d", "type": "database", "metadata": {"connectionString": f"sqlite:///{name}"}}

    answer = admin.post("/create-datastore", json=body)

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_datastore"
    assert answer.json()["field"] == "metadata.connectionString"


def test_an_mcp_server_may_say_that_it_wants_no_credentials(admin: httpx2.Client, live: Live) -> None:
    question = uuid.uuid4().hex
    live.model.when(question, reply("ok"))
    servers = [
        {"serverName": "x", "serverUrl": f"http://127.0.0.1:{free_port()}/mcp", "auth": {"type": "none"}}
    ]

    for path, body in (
        ("/", {"message": question}),
        (f"/api/v1/agents/{published(admin)}/run", {"query": question}),
    ):
        answer = admin.post(path, json=body | {"mcp_servers": servers, "background": True})
        assert answer.is_success, answer.text


CRON = "0 0 1 1 *"


@pytest.mark.parametrize("case", list(REFUSED))
def test_a_schedule_is_refused_for_what_its_run_would_be_when_it_is_made_and_when_it_is_changed(
    admin: httpx2.Client, case: str
) -> None:
    given, code, field = REFUSED[case]
    agent = published(admin)
    body = {"agent": agent, "schedule": CRON, "run": {"query": "m"}}
    made = admin.post("/api/v1/schedules", json=body).json()["id"]

    for answer in (
        admin.post("/api/v1/schedules", json=body | {"run": {"query": "m"} | given}),
        admin.patch(f"/api/v1/schedules/{made}", json={"run": {"query": "m"} | given}),
    ):
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
            400,
            code,
            f"run.{field}",
        )

    listed = admin.get("/api/v1/schedules", params={"agent": agent}).json()["data"]
    assert [(one["id"], one["run"]) for one in listed] == [(made, {"query": "m"})]


def lacking(admin: httpx2.Client) -> str:
    """An agent of which the datastore is gone; its name."""
    store = admin.post("/create-datastore", json={"name": "d", "type": "documents"}).json()["datastore_id"]
    name = f"@submit/{uuid.uuid4().hex[:8]}"
    manifest = {
        "name": name,
        "version": "1.0.0",
        "instructions": "Do it.",
        "model": "openai:scripted",
        "config": {"datastores": [{"id": f"{store}-gone", "name": "d"}]},
    }
    admin.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
    return name


def test_a_schedule_of_an_agent_whose_datastore_is_gone_is_refused_on_every_surface(
    admin: httpx2.Client,
) -> None:
    name = lacking(admin)
    profile = str(uuid.uuid4())

    natively = admin.post("/api/v1/schedules", json={"agent": name, "schedule": CRON, "run": {"query": "m"}})
    appstrates = admin.post(
        f"/api/agents/{name}/schedules", json={"connectionProfileId": profile, "cronExpression": CRON}
    )
    with_a_run = admin.post(
        "/", params={"agent": name}, json={"message": "m", "schedules": [{"schedule": CRON, "message": "m"}]}
    )

    assert (natively.status_code, natively.json()["code"]) == (400, "datastore_not_found")
    assert natively.json()["field"] == "agent"
    assert (appstrates.status_code, appstrates.json()["code"]) == (400, "invalid_request")
    assert "datastore" in appstrates.json()["detail"]
    assert (with_a_run.status_code, with_a_run.json()["code"]) == (400, "datastore_not_found")
    assert admin.get("/api/v1/schedules", params={"agent": name}).json()["data"] == []


def test_a_schedule_is_refused_for_the_tools_of_its_agent_that_are_not_open(admin: httpx2.Client) -> None:
    name = published(admin)
    for run in ({"tools": ["no_such_tool"]}, {"tools": ["@default/missing"]}):
        natively = admin.post(f"/api/v1/agents/{name}/run", json={"query": "m"} | run)
        scheduled = admin.post(
            "/api/v1/schedules", json={"agent": name, "schedule": CRON, "run": {"query": "m"} | run}
        )
        assert scheduled.is_success == natively.is_success, (natively.text, scheduled.text)
        if not natively.is_success:
            assert scheduled.json()["code"] == natively.json()["code"]
            assert scheduled.json()["field"] == f"run.{natively.json()['field']}"


def test_a_change_on_appstrate_is_judged_by_the_agents_own_input(admin: httpx2.Client) -> None:
    name = f"@submit/{uuid.uuid4().hex[:8]}"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    manifest = {"name": name, "version": "1.0.0", "instructions": "Do it.", "input": {"schema": schema}}
    admin.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
    body = {"connectionProfileId": str(uuid.uuid4()), "cronExpression": CRON, "input": {"n": "1"}}
    made = admin.post(f"/api/agents/{name}/schedules", json=body)

    refused = admin.put(f"/api/schedules/{made.json()['id']}", json={"input": {"n": "x"}})
    changed = admin.put(f"/api/schedules/{made.json()['id']}", json={"input": {"n": "2"}})

    assert (made.status_code, made.json()["input"]) == (201, {"n": 1})
    assert (refused.status_code, refused.json()["param"]) == (400, "n")
    assert (changed.status_code, changed.json()["input"]) == (200, {"n": 2})
