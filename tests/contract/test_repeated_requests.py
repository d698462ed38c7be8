"""Every operation that takes an Idempotency-Key carries a repeated request out once, in turn and at once."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx2
import pytest

from runyard_api.documents.openapi import document, path_of
from runyard_api.documents.values import AGENT_NAME, APPLICATION_ID
from runyard_api.fronts import operations
from runyard_api.http.operations import Operation
from tests.api_server import Api
from tests.contract.stock import stock

DOCUMENT: Final = document(operations())
KEYED: Final = [each for each in operations() if "Idempotency-Key" in each.headers]
#: Sent to the first caller only, or about the request and not about what it made.
_DIFFERENT: Final = ("key", "secret", "token", "url", "link", "request_id")
#: What a body needs to be, where the example's is taken by the operation's other requests.
NAMED: Final = {
    "native.create_agent": "name",
    "native.fork": "key",
    "nugen.create_agent": "agent_name",
    "native.create_organisation": "name",
    "native.add_member": "email",
    "native.invite": "email",
    "appstrate.create_end_user": "externalId",
}
#: The example's question is not there; a refusal frees the key.
REFUSED: Final = {"native.make_link": "question_not_open"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    settings: dict[str, Any] = {
        "wait_seconds": 0.2,
        "surface_requests_per_minute": {"agentbase": 0},
        "model": "openai:gpt-5-mini",
        "model_base_url": "http://127.0.0.1:9/v1",
    }
    with Api(tmp_path_factory.mktemp("repeats") / "home", **settings) as api, api.client() as made:
        yield made


@pytest.fixture(scope="module")
def known(client: httpx2.Client) -> dict[str, str]:
    """One object of each kind, by the placeholder that names it."""
    found = stock(client)
    body = {"agent": found["agent"], "schedule": "0 0 1 1 *", "run": {"query": "hello"}, "overlap": "allow"}
    ended = client.post(f"/api/v1/agents/{found['agent']}/run", json={"query": "hello"}).json()["task_id"]
    client.post(f"/tasks/{ended}/cancel").raise_for_status()
    own = {"native schedule_id": client.post("/api/v1/schedules", json=body).json()["id"]}
    return found | own | {"native.retry task_id": ended}


def send(operation: Operation, client: httpx2.Client, known: dict[str, str], key: str) -> httpx2.Response:
    """The operation's example, with what only one may have made of the key."""
    path, front = path_of(operation), operation.front.name
    described = DOCUMENT["paths"][path][operation.method.lower()]
    content = described.get("requestBody", {}).get("content", {})
    body = dict(content["application/json"]["example"]) if "application/json" in content else None
    if body is not None:
        if operation.name in NAMED:
            at = "@example.com" if NAMED[operation.name] == "email" else ""
            body[NAMED[operation.name]] = f"n{key}{at}"
        if operation.name == "native.publish_manifest":
            body |= {"name": f"@example/n{key}"}
        if front == "agentbase":
            body |= {"background": True}
    text = (
        json.dumps(body).replace(AGENT_NAME, known["agent"]).replace(APPLICATION_ID, known["application_id"])
    )
    text = text.replace('"agentName": "writer"', '"agentName": "agent"')
    asked = re.sub(r"{(\w+)}", lambda placeholder: named(operation, known, placeholder[1]), path)
    headers = {"content-type": "application/json", "idempotency-key": key}
    return client.request(operation.method, asked, content=None if body is None else text, headers=headers)


def named(operation: Operation, known: dict[str, str], placeholder: str) -> str:
    """The object in place of a placeholder of the operation's path."""
    places = (f"{operation.name} {placeholder}", f"{operation.front.name} {placeholder}", placeholder)
    return next((known[place] for place in places if place in known), "unknown")


def made(answer: httpx2.Response) -> Any:
    """The object that an answer describes."""
    body = answer.json()
    task_id = body.get("task_id") or body.get("taskId") or answer.headers.get("x-task-id")
    if answer.status_code == 504:
        return task_id
    return _without_secrets(body)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(item) for name, item in value.items() if name not in _DIFFERENT}
    return value


@pytest.mark.parametrize("operation", KEYED, ids=lambda operation: operation.name)
def test_a_request_repeated_makes_no_more_than_it_did(
    operation: Operation, client: httpx2.Client, known: dict[str, str]
) -> None:
    key = uuid.uuid4().hex

    first, second = (send(operation, client, known, key) for _ in range(2))

    if operation.name in REFUSED:
        assert first.json()["code"] == second.json()["code"] == REFUSED[operation.name]
        return
    assert first.status_code in (200, 201, 202, 504), first.text
    assert (second.status_code, made(second)) == (first.status_code, made(first))


@pytest.mark.parametrize(
    "operation", [each for each in KEYED if each.name not in REFUSED], ids=lambda operation: operation.name
)
def test_a_request_sent_many_times_at_once_makes_one_thing(
    operation: Operation, client: httpx2.Client, known: dict[str, str]
) -> None:
    key = uuid.uuid4().hex

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: send(operation, client, known, key), range(5)))

    good = [one for one in answers if one.status_code != 409]
    assert good, answers[0].text
    assert {one.status_code for one in good} <= {200, 201, 202, 504}, [one.text for one in good]
    assert all(made(one) == made(good[0]) for one in good)
    assert all("idempotency" in one.text for one in answers if one.status_code == 409)
    again = send(operation, client, known, key)
    assert (again.status_code, made(again)) == (good[0].status_code, made(good[0]))
