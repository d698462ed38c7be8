"""The examples of requests in the OpenAPI document, sent to a live server: what needs no other object is accepted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from runyard_api.documents.openapi import document, path_of
from runyard_api.documents.values import AGENT_NAME, APPLICATION_ID, MANIFEST
from runyard_api.fronts import operations
from runyard_api.http.operations import Operation
from tests.api_server import Api
from tests.contract.stock import stock

DOCUMENT: Final = document(operations())
WITH_JSON: Final = [each for each in operations() if each.body is not None]
WITH_FORM: Final = [each for each in operations() if each.form is not None]
#: Examples that need what the server does not have, and the code they are refused with for it.
NEEDS: Final = {
    # a question, a link, an invitation, a member, an organisation
    "native.review": "illegal_transition",
    "native.make_link": "question_not_open",
    "native.answer_question": "link_not_found",
    "native.accept_invitation": "invitation_not_found",
    "native.change_member": "member_not_found",
    "native.allot": "organisation_not_found",
    # a person who signs in, a provider of single sign-on
    "native.login": "wrong_password",
    "native.sign_in_by_link": "sign_in_link_not_found",
    "native.change_password": "missing_permission",
    "native.enrol_second_factor": "missing_permission",
    "native.confirm_second_factor": "missing_permission",
    "native.renew_recovery_codes": "missing_permission",
    "native.remove_second_factor": "missing_permission",
    "native.begin_sign_on": "no_single_sign_on",
    # workers
    "nara.run_agent": "wait_timeout",
    "nugen.run_by_name": "wait_timeout",
    "nugen.run_by_id": "wait_timeout",
    # a task that can be cancelled, or that has ended; a webhook that is active; a name that is free: the example of
    # another operation may have come first
    "native.cancel": "illegal_transition",
    "native.retry": "illegal_transition",
    "native.replay": "endpoint_disabled",
    "native.change_agent": "name_taken",
    "native.create_agent": "name_taken",
    "nugen.create_agent": "name_taken",
    "nugen.change_agent": "name_taken",
    "appstrate.create_package": "conflict",
    "appstrate.change_package": "agent_in_use",
    "appstrate.create_package_version": "agent_in_use",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    settings: dict[str, Any] = {
        "wait_seconds": 0.05,
        "surface_requests_per_minute": {"agentbase": 0},
        "model": "openai:gpt-5-mini",
        "model_base_url": "http://127.0.0.1:9/v1",
    }
    with Api(tmp_path_factory.mktemp("examples") / "home", **settings) as api, api.client() as made:
        yield made


@pytest.fixture(scope="module")
def known(client: httpx2.Client) -> dict[str, str]:
    """One object of each kind, by the placeholder that names it."""
    found = stock(client)
    agent = client.post("/api/v1/agents/manifests", json=MANIFEST)
    body = {"agent": AGENT_NAME, "schedule": "0 0 1 1 *", "run": {"query": "hello"}}
    schedule = client.post("/api/v1/schedules", json=body)
    assert (agent.status_code, schedule.status_code) == (201, 201), schedule.text
    scope, _, name = AGENT_NAME.partition("/")
    named = {"agent": AGENT_NAME, "scope": scope, "name": name}
    return found | named | {"native schedule_id": schedule.json()["id"]}


@pytest.mark.parametrize("operation", WITH_JSON, ids=lambda operation: operation.name)
def test_an_example_is_accepted(operation: Operation, client: httpx2.Client, known: dict[str, str]) -> None:
    path = path_of(operation)
    described = DOCUMENT["paths"][path][operation.method.lower()]
    example = described["requestBody"]["content"]["application/json"]["example"]
    body = (
        json.dumps(example)
        .replace(AGENT_NAME, known["agent"])
        .replace(APPLICATION_ID, known["application_id"])
    )
    asked = re.sub(
        r"{(\w+)}", lambda m: known.get(f"{operation.front.name} {m[1]}", known.get(m[1], "unknown")), path
    )
    headers = {"content-type": "application/json"}
    with client.stream(operation.method, asked, content=body, headers=headers) as answer:
        if answer.is_success:  # a stream would go on
            return
        answer.read()
    assert NEEDS.get(operation.name) == answer.json()["code"], answer.text


@pytest.mark.parametrize("operation", WITH_FORM, ids=lambda operation: operation.name)
def test_an_example_of_a_form_is_accepted(
    operation: Operation, client: httpx2.Client, known: dict[str, str]
) -> None:
    path = path_of(operation)
    described = DOCUMENT["paths"][path][operation.method.lower()]
    content = described["requestBody"]["content"]["multipart/form-data"]
    own = known | {"datastore_id": datastore(client)}
    asked = re.sub(r"{(\w+)}", lambda m: own.get(m[1], "unknown"), path)

    answer = client.request(operation.method, asked, files=parts_of(content, own))

    assert answer.is_success, answer.text


def datastore(client: httpx2.Client) -> str:
    """A new datastore for documents."""
    made = client.post("/create-datastore", json={"name": "forms", "type": "documents"})
    return str(made.json()["datastore_id"])


def parts_of(content: dict[str, Any], known: dict[str, str]) -> list[tuple[str, Any]]:
    """The parts of a form that the document's example describes: files by their names, texts as they are."""
    properties = content["schema"]["properties"]
    parts: list[tuple[str, Any]] = []
    for name, value in content["example"].items():
        schema = properties.get(name, {})
        for one in value if isinstance(value, list) else [value]:
            is_file = "binary" in (schema.get("format"), schema.get("items", {}).get("format"))
            parts.append((name, (one, b"The text of a file.") if is_file else (None, known.get(name, one))))
    return parts


def test_each_front_has_its_own_document(client: httpx2.Client) -> None:
    by_query = client.get("/openapi.json?front=native").json()
    assert by_query == client.get("/openapi/native.json").json()
    assert "/api/v1/tasks" in by_query["paths"]
    assert "/api/agent/run" not in by_query["paths"]
    assert client.get("/openapi.json").json()["paths"].keys() > by_query["paths"].keys()
    unknown = client.get("/openapi.json?front=natvie")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "front_not_found")
    assert "native, console, nara" in unknown.json()["detail"]
