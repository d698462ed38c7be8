"""nugen's older spellings: fields, paths and slashes that clients of earlier pages still send."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.contract.live import MODEL, Live, unique
from tests.fakes.model_server import reply

pytestmark = pytest.mark.timeout(180)

AGENTS = "/api/v3/agents"


def create(client: httpx2.Client, **fields: Any) -> dict[str, Any]:
    body = {"agent_name": unique("older"), "agent_description": "d", "model": MODEL} | fields
    answer = client.post(f"{AGENTS}/create/", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


def asked(client: httpx2.Client, live: Live, agent_id: str) -> dict[str, Any]:
    """What the model is asked with in a run of this agent."""
    question = unique("which settings?")
    live.model.when(question, reply("mine"))
    assert client.post(f"{AGENTS}/{agent_id}/run/", json={"message": question}).status_code == 200
    request: dict[str, Any] = live.model.request_about(question)
    return request


def test_create_takes_the_older_names_of_the_temperature_and_the_most_tokens(
    admin: httpx2.Client, live: Live
) -> None:
    made = create(admin, uncertainty_threshold=0.3, max_token=33)

    request = asked(admin, live, made["id"])

    assert made["temperature"] == request["temperature"] == 0.3
    assert 33 in (request.get("max_tokens"), request.get("max_completion_tokens"))


def test_patch_takes_them_too(admin: httpx2.Client) -> None:
    made = create(admin, temperature=0.9)

    changed = admin.patch(f"{AGENTS}/{made['id']}/", json={"uncertainty_threshold": 0.1}).json()["data"]

    assert changed == made | {"temperature": 0.1}


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_spellings_the_newer_counts(admin: httpx2.Client, reverse: bool) -> None:
    both = [("temperature", 0.5), ("uncertainty_threshold", 0.1)]

    assert create(admin, **dict(reversed(both) if reverse else both))["temperature"] == 0.5


def test_without_either_the_temperature_is_the_contracts(admin: httpx2.Client) -> None:
    assert create(admin)["temperature"] == 0.7


@pytest.mark.parametrize("body", [{"uncertainty_threshold": 3}, {"temperature": 2.01}, {"max_token": 0}])
def test_create_refuses_what_patch_refuses(admin: httpx2.Client, body: dict[str, Any]) -> None:
    whole = {"agent_name": unique("x"), "agent_description": "d", "model": MODEL} | body

    assert admin.post(f"{AGENTS}/create", json=whole).status_code == 400


def test_a_demonstration_may_have_fields_beside(admin: httpx2.Client) -> None:
    assert create(admin, demonstrations=[{"user_input": "a", "model_output": "b", "id": 1}])["id"]


def test_both_run_paths_are_one_conversation(admin: httpx2.Client) -> None:
    [agent] = [a for a in admin.get(f"{AGENTS}/").json()["agents"] if a["name"] == "remembers"]
    headers = {"x-session-id": unique("s")}
    admin.post(f"{AGENTS}/run-agents/remembers/run/", json={"message": "one"}, headers=headers)

    answer = admin.post(f"{AGENTS}/{agent['id']}/run/", json={"message": "two"}, headers=headers)

    assert answer.json()["response"] == "1 before: one"
    assert answer.json()["agent_id"] == agent["id"]


def test_an_inactive_agent_can_neither_be_changed_nor_deleted(admin: httpx2.Client) -> None:
    made = create(admin)
    admin.patch(f"/api/v1/agents/{made['id']}", json={"is_active": False})

    for answer in (
        admin.patch(f"{AGENTS}/{made['id']}", json={"temperature": 1}),
        admin.delete(f"{AGENTS}/{made['id']}"),
    ):
        assert answer.status_code == 404
        assert answer.json()["detail"]


def test_delete_takes_a_slash_too(admin: httpx2.Client) -> None:
    made = create(admin)

    assert admin.delete(f"{AGENTS}/{made['id']}/").status_code == 204


def test_an_empty_balance_is_402_on_the_older_path(live: Live, admin: httpx2.Client) -> None:
    [agent] = [a for a in admin.get(AGENTS).json()["agents"] if a["name"] == "echo"]
    _, key = live.new_organisation(balance_micros=0)
    with live.client(key) as broke:
        answer = broke.post(f"{AGENTS}/{agent['id']}/run/", json={"message": "hi"})

    assert answer.status_code == 402
    assert answer.json()["detail"]
