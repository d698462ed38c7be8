"""The appstrate contract: the version query and the versions of a package (sections 4 and 14)."""

from __future__ import annotations

from typing import Any

import httpx2

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from tests.api_server import Api
from tests.contract.appstrate import fresh, made, problem, run_id


class Package:
    """An agent with these published versions, the last one `latest`."""

    def __init__(self, client: httpx2.Client, *numbers: str) -> None:
        self.client, self.name = client, fresh("@shop/agent")
        self.path = f"/api/packages/agents/{self.name}"
        for number in numbers:
            manifest = {"name": self.name, "version": number, "instructions": f"Do {number}."}
            client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()

    def ran(self, query: str) -> str | None:
        """Which version a query runs, None where it is 404; its run is over at once."""
        answer = self.client.post(f"/api/agents/{self.name}/run", params={"version": query})
        if answer.status_code == 404:
            problem(answer, 404, "not_found", "version")
            return None
        id_ = made(answer, 200)["runId"]
        self.client.post(f"/api/runs/{id_}/cancel")
        return str(self.client.get(f"/api/runs/{id_}").json()["packageVersion"])

    def yank(self, number: str) -> None:
        assert self.client.delete(f"{self.path}/versions/{number}").status_code == 204

    def tag(self, tag: str, number: str) -> None:
        answer = self.client.put(f"/api/v1/agents/{self.name}/tags/{tag}", json={"version": number})
        assert answer.is_success, answer.text


class TestQuery:
    def test_an_exact_number_is_that_version_or_nothing(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0", "1.2.0", "2.0.0")
        asked = ("1.0.0", "v1.2.0", "=2.0.0", "1.1.0", "2.0.1", "1.0.0-beta")
        assert [package.ran(query) for query in asked] == ["1.0.0", "1.2.0", "2.0.0", None, None, None]
        package.yank("2.0.0")
        assert package.ran("2.0.0") == "2.0.0"

    def test_a_tag_is_its_version_unless_that_is_yanked_and_no_range_replaces_it(
        self, client: httpx2.Client
    ) -> None:
        package = Package(client, "1.0.0", "1.1.0")
        package.tag("stable", "1.0.0")
        assert [package.ran("stable"), package.ran("latest")] == ["1.0.0", "1.1.0"]
        package.yank("1.0.0")
        assert package.ran("stable") is None
        assert package.ran("canary") is None

    def test_a_range_is_the_highest_match_that_is_not_yanked(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0", "1.9.0", "1.10.0", "2.0.0-rc.1")
        asked = ("^1.0.0", "1.x", "~1.9", ">=1.0.0 <1.10.0", "*", ">=2.0.0-0", ">=3")
        expected = ["1.10.0", "1.10.0", "1.9.0", "1.9.0", "1.10.0", "2.0.0-rc.1", None]
        assert [package.ran(query) for query in asked] == expected
        package.yank("1.10.0")
        assert [package.ran("^1.0.0"), package.ran("*")] == ["1.9.0", "1.9.0"]

    def test_an_empty_query_is_none(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0")
        assert package.ran("") == "1.0.0"

    def test_the_operators_agents_ignore_it(self, api: Api, client: httpx2.Client) -> None:
        name = fresh("@operator/agent")
        manifest = parse({"name": name, "version": "1.0.0", "instructions": "Do it."})
        with api.state.store.begin() as tx:
            agents.publish(tx, api.state.org_id, manifest, shared=True)
        answer = client.post(f"/api/agents/{name}/run?version=9.9.9")
        run = client.get(f"/api/runs/{made(answer, 200)['runId']}").json()
        assert run["packageVersion"] == "1.0.0"


class TestVersions:
    def test_a_version_is_read_whole_by_number_tag_or_range(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0", "1.1.0")
        [newest, oldest] = client.get(f"{package.path}/versions").json()["versions"]
        assert oldest.keys() == {"id", "version", "integrity", "artifactSize", "yanked", "createdAt"}
        for query, brief in (("1.0.0", oldest), ("latest", newest), ("^1.0.0", newest)):
            whole = made(client.get(f"{package.path}/versions/{query}"), 200)
            assert whole.items() >= brief.items()
            assert whole["content"] == f"Do {brief['version']}."
        problem(client.get(f"{package.path}/versions/9.9.9"), 404, "not_found")
        problem(client.delete(f"{package.path}/versions/9.9.9"), 404, "not_found")
        problem(client.post(f"{package.path}/versions/9.9.9/restore"), 404, "not_found")

    def test_info_shows_the_latest_the_draft_and_the_tags(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0", "1.1.0")
        package.tag("stable", "1.0.0")
        info = client.get(f"{package.path}/versions/info").json()
        assert info == {
            "latestVersion": "1.1.0", "draftVersion": None, "hasUnpublishedChanges": False, "versionCount": 2,
            "tags": {"latest": "1.1.0", "stable": "1.0.0"},
        }  # fmt: skip

    def test_what_is_asked_for_is_the_versions_prompt_not_the_drafts(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0")
        read = client.get(package.path).json()
        change = {"manifest": read["manifest"], "content": " ", "lockVersion": read["lockVersion"]}
        made(client.put(package.path, json=change), 200)
        assert package.ran("1.0.0") == "1.0.0"
        problem(client.post(f"/api/agents/{package.name}/run"), 400, "empty_prompt")

    def test_a_draft_becomes_a_version_of_the_number_asked_for(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0")
        read = client.get(package.path).json()
        problem(client.post(f"{package.path}/versions"), 409, "conflict")  # nothing was changed
        change = {"manifest": read["manifest"], "content": "New.", "lockVersion": read["lockVersion"]}
        made(client.put(package.path, json=change), 200)
        problem(client.post(f"{package.path}/versions", json={"version": "two"}), 400, "invalid_request")
        assert made(client.post(f"{package.path}/versions", json={"version": "2.0.0"}))["version"] == "2.0.0"
        assert package.ran("latest") == "2.0.0"

    def test_a_change_needs_the_lock_number(self, client: httpx2.Client) -> None:
        package = Package(client, "1.0.0")
        given: dict[str, Any] = {"manifest": client.get(package.path).json()["manifest"], "content": "x"}
        problem(client.put(package.path, json=given), 400, "invalid_request", "lockVersion")
        problem(client.put(package.path, json=given | {"lockVersion": 7}), 409, "conflict", "lockVersion")

    def test_manifests_that_name_no_timeout_get_300_seconds(self, api: Api, client: httpx2.Client) -> None:
        name = fresh("@shop/agent")
        manifest = {"name": name, "version": "1.0.0"}
        made(client.post("/api/packages/agents", json={"manifest": manifest, "content": "Do it."}))
        own = name.replace("agent", "own")
        slow = {"manifest": manifest | {"name": own, "timeout": 7}, "content": "Do it."}
        made(client.post("/api/packages/agents", json=slow))
        with api.state.store.read() as conn:
            found = [agents.resolve(OrgScope(conn, api.state.org_id), n).ref.timeout_s for n in (name, own)]
        assert found == [300, 7]
        assert run_id(client, name)
