"""The nanonets contract (docs/fronts/nanonets.md): agents."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.contract.live import unique
from tests.contract.nanonets import V1, create, refused, run

pytestmark = pytest.mark.timeout(300)


AGENT_FIELDS = {
    "id", "agent_group_id", "version_number", "status", "name", "is_active", "created_at", "updated_at",
}  # fmt: skip


class TestAgents:
    def test_a_new_agent_is_a_draft_that_runs(self, admin: httpx2.Client) -> None:
        agent = create(admin, name=unique("Clerk"), system_prompt="Be kind.")

        assert agent.keys() >= AGENT_FIELDS | {"config"}
        assert (agent["status"], agent["version_number"], agent["is_active"]) == ("draft", 1, True)
        assert agent["config"]["system_prompt"] == "Be kind."
        assert run(admin, agent["id"])["agent_id"] == agent["id"]

    def test_all_of_it_is_optional_and_names_count_on(self, admin: httpx2.Client) -> None:
        names = [create(admin)["name"] for _ in range(2)]

        assert all(name.startswith("Untitled Agent ") for name in names)
        assert names[0] != names[1]

    def test_a_taken_name_is_409(self, admin: httpx2.Client) -> None:
        name = create(admin, name=unique("Clerk"))["name"]

        refused(admin.post(f"{V1}/agents", json={"name": name}), 409)

    def test_system_prompt_is_ignored_beside_one_in_the_config(self, admin: httpx2.Client) -> None:
        agent = create(admin, system_prompt="outer", config={"system_prompt": "inner", "milestones": [1]})

        assert agent["config"] == {"system_prompt": "inner", "milestones": [1]}

    def test_a_change_of_a_draft_is_made_in_place(self, admin: httpx2.Client) -> None:
        agent = create(admin, config={"system_prompt": "a", "states": {}})

        changed = admin.patch(f"{V1}/agents/{agent['id']}", json={"system_prompt": "b"}).json()
        assert (changed["id"], changed["version_number"]) == (agent["id"], 1)
        assert changed["config"] == {"system_prompt": "b", "states": {}}

        whole = admin.patch(f"{V1}/agents/{agent['id']}", json={"config": {"tools": []}}).json()
        assert whole["config"] == {"tools": []}

    def test_publishing_makes_the_draft_live_and_archives_what_was(self, admin: httpx2.Client) -> None:
        agent = create(admin, name=unique("Clerk"), system_prompt="a")
        first = admin.post(f"{V1}/agents/{agent['id']}/versions/publish").json()
        draft = admin.patch(f"{V1}/agents/{agent['id']}", json={"system_prompt": "b"}).json()
        second = admin.post(f"{V1}/agents/{draft['id']}/versions/publish").json()

        assert (first["id"], first["status"]) == (agent["id"], "published")
        assert (draft["status"], draft["agent_group_id"]) == ("draft", agent["agent_group_id"])
        assert (second["id"], second["status"], second["version_number"]) == (draft["id"], "published", 2)
        versions = admin.get(f"{V1}/agents/{agent['id']}/versions").json()["data"]
        assert [(one["version_number"], one["status"]) for one in versions] == [
            (2, "published"),
            (1, "archived"),
        ]
        assert all("config" not in one for one in versions)

    def test_an_agent_is_named_with_an_escaped_slash_on_every_path(self, admin: httpx2.Client) -> None:
        name = create(admin, name=unique("Clerk"))["full_name"]
        for escaped in (name.replace("/", "%2F"), name.replace("/", "%2f").replace("@", "%40"), name):
            for rest in ("", "/versions", "/tags"):
                assert admin.get(f"{V1}/agents/{escaped}{rest}").status_code == 200, (escaped, rest)

    def test_publishing_without_a_change_is_409(self, admin: httpx2.Client) -> None:
        agent = create(admin)
        admin.post(f"{V1}/agents/{agent['id']}/versions/publish")

        refused(admin.post(f"{V1}/agents/{agent['id']}/versions/publish"), 409)

    def test_the_list_leaves_out_configs_and_archived_ones(self, admin: httpx2.Client) -> None:
        name = unique("Clerk")
        agent = create(admin, name=name)
        admin.post(f"{V1}/agents/{agent['id']}/versions/publish")
        draft = admin.patch(f"{V1}/agents/{agent['id']}", json={"system_prompt": "b"}).json()
        admin.post(f"{V1}/agents/{draft['id']}/versions/publish")

        def listed(**parameters: str) -> list[dict[str, Any]]:
            page = admin.get(f"{V1}/agents", params={"q": name.upper()} | parameters).json()
            assert page.keys() >= {"data", "has_more", "next_cursor"}
            return list(page["data"])

        [current] = listed()
        assert (current["id"], current.keys() >= AGENT_FIELDS, "config" in current) == (
            draft["id"],
            True,
            False,
        )
        assert [one["id"] for one in listed(status="archived")] == [agent["id"]]
