"""Every operation of every front refuses a JSON body that is no object, and every path a method it does not answer, in
the front's own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from runyard_api.fronts import operations
from runyard_api.http.endpoint import by_path
from runyard_api.http.operations import Operation
from runyard_common.identity.rules.roles import Role
from tests import members
from tests.api_server import Api
from tests.contract.stock import stock

WITH_JSON: Final = [each for each in operations() if each.body is not None]
BY_PATH: Final = by_path(operations())
NO_OBJECTS: Final = (b"[1]", b'"x"', b"null", b"3", b"true", b"[]")
METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT", "TRACE")
#: Paths without an operation.
PAGES: Final = (
    "/",
    "/docs",
    "/docs/",
    "/openapi.json",
    "/api/openapi.json",
    "/openapi/native.json",
    "/console/",
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings: dict[str, Any] = {
        "surface_requests_per_minute": {"agentbase": 0},
        "wait_seconds": 0.05,
        "model": "openai:gpt-5-mini",
        "model_base_url": "http://127.0.0.1:9/v1",
    }
    with Api(tmp_path_factory.mktemp("bodies") / "home", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as made:
        yield made


@pytest.fixture(scope="module")
def signed_in(api: Api) -> Iterator[httpx2.Client]:
    """A person with an account, who alone may change it."""
    user_id = members.person(api, "ada@example.com", (api.state.org_id, Role.ADMIN))
    with members.browser(api, user_id) as made:
        yield made


@pytest.fixture(scope="module")
def known(client: httpx2.Client) -> dict[str, str]:
    """One object of each kind, by the placeholder that names it."""
    found = stock(client)
    body = {"agent": found["agent"], "schedule": "0 0 1 1 *", "run": {"query": "hello"}}
    return found | {"native schedule_id": client.post("/api/v1/schedules", json=body).json()["id"]}


def path_to(operation: Operation, known: dict[str, str]) -> str:
    """A path of the operation that names objects which are there."""
    front = operation.front.name
    return re.sub(
        r"{(\w+)(:\w+)?}",
        lambda match: known.get(f"{front} {match[1]}", known.get(match[1], "unknown")),
        operation.paths[0],
    )


def code_of(answer: httpx2.Response, front: str) -> str:
    """The code of a refusal, which must have the form of the front's refusals."""
    body = answer.json()
    kind = answer.headers["content-type"].partition(";")[0]
    match front:
        case "nugen":
            assert kind == "application/json"
            detail = body["detail"]
            return str(body["code"] if isinstance(detail, str) else detail[0]["type"])
        case "nara":
            assert (kind, body["success"], type(body["error"])) == ("application/json", False, str)
        case "agentbase":
            assert (kind, type(body["error"])) == ("application/json", str)
        case "appstrate":
            assert (kind, type(body["detail"])) == ("application/problem+json", str)
            assert body["requestId"]
        case _:
            assert (kind, body["detail"]) == ("application/problem+json", body["error"])
            assert body["request_id"]
    return str(body["code"])


#: What a body that is no object is refused with.
REFUSED: Final = {"nugen": (422, "dict_type"), "appstrate": (400, "invalid_request")}
#: What is refused before the body is looked at: a link is the credential, and there is none here.
EARLIER: Final = {"native.answer_question": (404, "link_not_found")}


@pytest.mark.parametrize("operation", WITH_JSON, ids=lambda operation: operation.name)
def test_a_body_that_is_no_object_is_refused(
    operation: Operation, client: httpx2.Client, signed_in: httpx2.Client, known: dict[str, str]
) -> None:
    front = operation.front.name
    caller = signed_in if operation.permission == "account:write" else client
    for content in NO_OBJECTS:
        headers = {"content-type": "application/json"}
        answer = caller.request(operation.method, path_to(operation, known), content=content, headers=headers)
        found = (answer.status_code, code_of(answer, front))
        if operation.name in EARLIER:
            assert found == EARLIER[operation.name]
            continue
        assert found == REFUSED.get(front, (400, "not_an_object")), (content, answer.text)
        assert "object" in answer.text


@pytest.mark.parametrize("path", sorted(BY_PATH))
def test_a_method_that_a_path_does_not_answer_is_refused_with_those_it_does(
    path: str, client: httpx2.Client, known: dict[str, str]
) -> None:
    here = BY_PATH[path]
    answered = {operation.method for operation in here} | ({"GET"} if path == "/" else set())
    allowed = sorted(answered | ({"HEAD"} if "GET" in answered else set()))
    asked = re.sub(r"{(\w+)(:\w+)?}", lambda match: known.get(match[1], "unknown"), path)
    for method in set(METHODS) - answered:
        check_refusal(client.request(method, asked), method, allowed, here[0].front.name)


@pytest.mark.parametrize("path", PAGES)
def test_pages_refuse_other_methods_as_well(path: str, client: httpx2.Client) -> None:
    allowed = ["GET", "HEAD", "POST"] if path == "/" else ["GET", "HEAD"]
    front = "agentbase" if path == "/" else "native"
    check_refusal(client.request("DELETE", path), "DELETE", allowed, front)


def check_refusal(answer: httpx2.Response, method: str, allowed: list[str], front: str) -> None:
    """A 405 that names the methods in a sentence and in its header."""
    assert (answer.status_code, answer.headers["allow"]) == (405, ", ".join(allowed)), answer.text
    assert code_of(answer, front) == "method_not_allowed"
    *firsts, last = allowed
    named = f"{', '.join(firsts)} and {last}" if firsts else last
    sentence = answer.json().get("detail") or answer.json()["error"]
    assert sentence == f"This path answers {named}, not {method}."


@pytest.mark.parametrize("content", ["- 1", "text", "null", "3"])
def test_a_manifest_in_yaml_that_is_no_object_is_refused(content: str, client: httpx2.Client) -> None:
    headers = {"content-type": "application/yaml"}
    answer = client.post("/api/v1/agents/manifests", content=content, headers=headers)
    assert (answer.status_code, code_of(answer, "native")) == (400, "not_an_object")


@pytest.mark.parametrize("value", ["[1]", '"x"', "3", "true"])
def test_a_forms_input_that_is_no_object_is_refused_by_its_name(
    value: str, client: httpx2.Client, known: dict[str, str]
) -> None:
    path = f"/api/agents/{known['scope']}/{known['name']}/run"
    answer = client.post(path, files={"input": (None, value)})
    assert (answer.status_code, code_of(answer, "appstrate")) == (400, "invalid_request")
    assert answer.json()["param"] == "input"
