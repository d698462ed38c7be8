"""The nugen contract, fact by fact (docs/fronts/nugen.md): agents are made, listed, changed and deleted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx2
import pytest

from tests.contract.live import MODEL, Live, unique
from tests.contract.nugen import AGENT_FIELDS, AGENTS, create, defect, detail, run
from tests.fakes.model_server import reply, system_of

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def bot(admin: httpx2.Client) -> dict[str, Any]:
    """An agent made through this front."""
    return create(admin, unique("support bot"), instructions="Be kind.", temperature=0.2, max_tokens=77)


@pytest.fixture
def other(live: Live) -> Iterator[httpx2.Client]:
    """A client of an organisation of its own."""
    _, key = live.new_organisation()
    with live.client(key) as client:
        yield client


class TestManagement:
    def test_the_available_models_are_an_array(self, admin: httpx2.Client) -> None:
        models = admin.get(f"{AGENTS}/available_models").json()

        assert models == [{"id": MODEL, "name": "scripted", "base_model": "scripted"}]

    def test_create_answers_with_the_agent(self, admin: httpx2.Client, live: Live) -> None:
        made = create(admin, "Your First Agent ", instructions="Say hi.")

        assert made.keys() == AGENT_FIELDS
        assert made["name"] == "your_first_agent"
        assert made["description"] == "Helps."
        assert made["base_model"] == MODEL
        assert made["base_model_name"] == "scripted"
        assert made["status"] == "ACTIVE"
        assert made["system_prompt"] == "Say hi."
        assert made["temperature"] == 0.7
        assert made["usage_count"] == 0
        assert made["last_used"] is None
        assert made["conversation_saving_enabled"] is True
        assert made["endpoint"] == live.url("/api/v3/agents/run-agents/your_first_agent/run")
        assert made["creator"]
        assert datetime.fromisoformat(made["created_date"]).tzinfo is not None
        assert made["performance_metrics"] == {
            "average_uncertainty": 0,
            "human_interventions": 0,
            "average_response_time": 0,
            "user_satisfaction_score": 0,
        }

    @pytest.mark.parametrize("field", ["agent_name", "agent_description", "model"])
    def test_create_requires_name_description_and_model(self, admin: httpx2.Client, field: str) -> None:
        body = {"agent_name": unique("x"), "agent_description": "d", "model": MODEL}
        del body[field]

        assert defect(admin.post(f"{AGENTS}/create", json=body))["loc"] == ["body", field]

    def test_create_refuses_a_model_there_is_not(self, admin: httpx2.Client) -> None:
        body = {"agent_name": unique("x"), "agent_description": "d", "model": "unknown:nothing"}

        assert MODEL in detail(admin.post(f"{AGENTS}/create", json=body), 400, "unknown_model")

    def test_create_takes_a_model_by_its_name(self, admin: httpx2.Client) -> None:
        assert create(admin, model="scripted")["base_model"] == MODEL

    def test_a_demonstration_that_does_not_fit_is_422(self, admin: httpx2.Client) -> None:
        body = {
            "agent_name": unique("x"),
            "agent_description": "d",
            "model": MODEL,
            "demonstrations": [{"user_input": "a"}],
        }

        found = defect(admin.post(f"{AGENTS}/create", json=body))

        assert found["loc"] == ["body", "demonstrations", 0, "model_output"]

    def test_two_agents_of_one_normalised_name_are_refused_with_400(self, admin: httpx2.Client) -> None:
        made = create(admin)
        body = {"agent_name": made["name"].upper(), "agent_description": "d", "model": MODEL}

        detail(admin.post(f"{AGENTS}/create", json=body), 400, "name_taken")

    def test_a_name_without_letters_is_400(self, admin: httpx2.Client) -> None:
        body = {"agent_name": "!!!", "agent_description": "d", "model": MODEL}

        detail(admin.post(f"{AGENTS}/create", json=body), 400, "invalid_name")

    def test_the_list_holds_active_agents(self, admin: httpx2.Client) -> None:
        on, off = create(admin), create(admin)
        admin.patch(f"/api/v1/agents/{off['id']}", json={"is_active": False})

        body = admin.get(AGENTS).json()
        everyone = admin.get(f"{AGENTS}?include_inactive=true").json()["agents"]

        assert body.keys() == {"agents"}
        assert all(agent.keys() == AGENT_FIELDS for agent in body["agents"])
        names = {agent["name"] for agent in body["agents"]}
        assert on["name"] in names
        assert off["name"] not in names
        assert {a["name"]: a["status"] for a in everyone}[off["name"]] == "INACTIVE"

    def test_a_query_that_does_not_fit_is_422(self, admin: httpx2.Client) -> None:
        found = defect(admin.get(f"{AGENTS}?include_inactive=maybe"))

        assert found["loc"] == ["query", "include_inactive"]

    def test_get_answers_with_the_agent(self, admin: httpx2.Client, bot: dict[str, Any]) -> None:
        body = admin.get(f"{AGENTS}/{bot['id']}").json()

        assert body.keys() == {"data"}
        assert body["data"]["id"] == bot["id"]
        assert body["data"]["temperature"] == 0.2

    def test_get_is_404_for_unknown_inactive_and_foreign_agents(
        self, admin: httpx2.Client, live: Live, bot: dict[str, Any]
    ) -> None:
        detail(admin.get(f"{AGENTS}/{uuid.uuid4()}"), 404)
        made = create(admin)
        admin.patch(f"/api/v1/agents/{made['id']}", json={"is_active": False})
        detail(admin.get(f"{AGENTS}/{made['id']}"), 404)
        _, key = live.new_organisation()
        with live.client(key) as other:
            for answer in (
                other.get(f"{AGENTS}/{bot['id']}"),
                other.patch(f"{AGENTS}/{bot['id']}", json={"temperature": 1}),
                other.delete(f"{AGENTS}/{bot['id']}"),
            ):
                detail(answer, 404, "agent_not_found")

    def test_an_agent_of_the_operator_cannot_be_changed_or_deleted(self, admin: httpx2.Client) -> None:
        [echo] = [a for a in admin.get(AGENTS).json()["agents"] if a["name"] == "echo"]

        detail(admin.patch(f"{AGENTS}/{echo['id']}", json={"temperature": 1}), 404)
        detail(admin.delete(f"{AGENTS}/{echo['id']}"), 404)

    def test_patch_changes_what_is_given_and_nothing_else(self, admin: httpx2.Client, live: Live) -> None:
        made = create(admin, instructions="Old.", temperature=0.4, max_tokens=10)

        answer = admin.patch(f"{AGENTS}/{made['id']}", json={"instructions": "New.", "max_token": 20})

        assert answer.json()["data"] == made | {"system_prompt": "New."}
        question = unique("changed?")
        live.model.when(question, reply("yes"))
        run(admin, made["name"], question)
        request = live.model.request_about(question)
        assert system_of(request) == "New."
        assert request["temperature"] == 0.4
        assert 20 in (request.get("max_tokens"), request.get("max_completion_tokens"))

    def test_patch_can_change_every_field(self, admin: httpx2.Client) -> None:
        made = create(admin)
        renamed = unique("Renamed Agent")

        changed = admin.patch(
            f"{AGENTS}/{made['id']}",
            json={
                "agent_name": renamed,
                "agent_description": "New.",
                "model": MODEL,
                "temperature": 2.0,
                "max_tokens": 5,
                "instructions": None,
                "demonstrations": [],
            },
        ).json()["data"]

        assert changed["id"] == made["id"]
        assert changed["name"] == renamed.lower().replace(" ", "_")
        assert changed["description"] == "New."
        assert changed["temperature"] == 2.0
        assert changed["system_prompt"] == ""
        detail(run(admin, made["name"], "hi"), 404)

    def test_patch_that_changes_nothing_publishes_nothing(self, admin: httpx2.Client) -> None:
        made = create(admin, instructions="Same.")
        admin.patch(f"{AGENTS}/{made['id']}", json={"instructions": "Same."})
        admin.patch(f"{AGENTS}/{made['id']}", json={})

        versions = admin.get(f"/api/v1/agents/{made['id']}/versions").json()["data"]

        assert [version["version"] for version in versions] == ["1.0.0"]

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"model": "unknown:nothing"}, "unknown_model"),
            ({"temperature": 2.1}, "invalid_manifest"),
            ({"temperature": -0.1}, "invalid_manifest"),
            ({"max_tokens": 0}, "invalid_manifest"),
        ],
    )
    def test_patch_refuses_a_bad_value_with_400(
        self, admin: httpx2.Client, bot: dict[str, Any], body: dict[str, Any], code: str
    ) -> None:
        detail(admin.patch(f"{AGENTS}/{bot['id']}", json=body), 400, code)

    def test_patch_refuses_a_bad_type_with_422(self, admin: httpx2.Client, bot: dict[str, Any]) -> None:
        answer = admin.patch(f"{AGENTS}/{bot['id']}", json={"temperature": "hot"})

        assert defect(answer)["loc"] == ["body", "temperature"]

    def test_delete_takes_the_agent_its_conversations_and_its_usage(
        self, admin: httpx2.Client, live: Live
    ) -> None:
        made, question, session = create(admin), unique("remember me"), unique("s")
        live.model.when(question, reply("ok"))
        run(admin, made["name"], question, session)
        assert session in {s["key"] for s in admin.get("/api/v1/sessions?limit=100").json()["data"]}
        tokens = admin.get(f"{AGENTS}/usage").json()["data"]["total_tokens"]

        answer = admin.delete(f"{AGENTS}/{made['id']}")

        assert (answer.status_code, answer.content) == (204, b"")
        detail(admin.get(f"{AGENTS}/{made['id']}"), 404)
        detail(run(admin, made["name"], "hi"), 404)
        detail(admin.delete(f"{AGENTS}/{made['id']}"), 404)
        assert session not in {s["key"] for s in admin.get("/api/v1/sessions?limit=100").json()["data"]}
        assert admin.get(f"{AGENTS}/usage").json()["data"]["total_tokens"] < tokens

    def test_a_member_may_make_agents_but_not_delete_them(self, live: Live) -> None:
        with live.client(live.key_of("member")) as member:
            made = create(member)
            detail(member.delete(f"{AGENTS}/{made['id']}"), 403, "missing_permission")

    def test_runs_count_as_usage_of_their_agent(self, admin: httpx2.Client, live: Live) -> None:
        made, question = create(admin), unique("count me")
        live.model.when(question, reply("one"), forever=True)
        run(admin, made["name"], question)
        run(admin, made["name"], question)

        agent = admin.get(f"{AGENTS}/{made['id']}").json()["data"]

        assert agent["usage_count"] == 2
        assert datetime.fromisoformat(agent["last_used"]) > datetime.fromisoformat(agent["created_date"])
        assert agent["performance_metrics"]["average_response_time"] > 0

    def test_usage_is_zero_and_empty_before_anything_was_used(self, other: httpx2.Client) -> None:
        assert other.get(f"{AGENTS}/usage").json() == {
            "data": {
                "total_usage": 0,
                "total_tokens": 0,
                "average_tokens_per_request": 0,
                "most_used_model": "",
                "usage_by_model": {},
            }
        }

    def test_usage_counts_requests_and_tokens_by_model(self, other: httpx2.Client, live: Live) -> None:
        made, question = create(other), unique("tokens")
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        live.model.when(question, reply("a", usage=usage), reply("b", usage=usage))
        run(other, made["name"], question)
        run(other, made["name"], question)

        assert other.get(f"{AGENTS}/usage").json()["data"] == {
            "total_usage": 2,
            "total_tokens": 30,
            "average_tokens_per_request": 15,
            "most_used_model": MODEL,
            "usage_by_model": {MODEL: 2},
        }
