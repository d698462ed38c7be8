"""What runs used and cost, summed; and what the operator allots: shares, balances, active and closed organisations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from runyard_common.privacy.service import erasures
from runyard_common.tables.query import Lane, Turn
from runyard_common.values.ids import uuid7
from tests.api_server import Api
from tests.members import key, organisation


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Api(tmp_path_factory.mktemp("usage")) as running:
        yield running


@pytest.fixture
def operator(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


def _turn(api: Api, org_id: str, task: dict[str, Any], number: int, **more: Any) -> None:
    row = {
        "task_id": task["task_id"], "key": f"turn-{number}", "org_id": org_id, "agent_id": task["agent_group_id"],
        "session_id": None, "key_id": None, "model": "test:small", "input_tokens": 100, "output_tokens": 10,
        "cached_tokens": 40, "cost_micros": 1_500,
    }  # fmt: skip
    with api.state.store.begin() as tx:
        tx.conn.execute(Turn.__table__.insert(), [row | {"at": tx.now} | more])


class TestUsage:
    def test_turns_are_summed_the_costliest_first_and_in_all(self, api: Api) -> None:
        org_id = organisation(api)
        with api.client(key(api, org_id)) as client:
            one, two = (_run(client, name) for name in ("cheap", "dear"))
            _turn(api, org_id, one, 1)
            _turn(api, org_id, two, 1, cost_micros=9_000, model="test:large")
            _turn(api, org_id, two, 2, session_id="s")
            by_agent = client.get("/api/v1/usage").json()
            assert [(row["name"], row["turns"], row["cost"]) for row in by_agent["data"]] == [
                ("@default/dear", 2, 0.0105), ("@default/cheap", 1, 0.0015),
            ]  # fmt: skip
            assert by_agent["total"] | {"last_at": None} == {
                "turns": 3, "input_tokens": 300, "output_tokens": 30, "cached_tokens": 120, "cost": 0.012,
                "last_at": None,
            }  # fmt: skip
            rows = client.get("/api/v1/usage?by=model&limit=1").json()["data"]
            assert [(row["id"], row["turns"]) for row in rows] == [("test:large", 1)]
            rows = client.get("/api/v1/usage?by=session").json()["data"]
            assert {row["id"]: row["turns"] for row in rows} == {None: 2, "s": 1}
            rows = client.get("/api/v1/usage?by=task").json()["data"]
            assert {row["id"]: row["turns"] for row in rows} == {one["task_id"]: 1, two["task_id"]: 2}

    def test_only_the_time_asked_for_counts_and_nothing_is_zero(self, api: Api) -> None:
        org_id = organisation(api)
        with api.client(key(api, org_id)) as client:
            _turn(api, org_id, _run(client, "old"), 1, at=0.0)
            recent = client.get("/api/v1/usage").json()
            assert (recent["data"], recent["total"]["turns"], recent["total"]["cost"]) == ([], 0, 0.0)
            all_time = client.get("/api/v1/usage", params={"since": "1970-01-01T00:00:00Z"}).json()
            assert all_time["total"]["turns"] == 1
            assert client.get("/api/v1/usage?by=weather").status_code == 400

    def test_another_organisations_turns_are_not_in_it(self, api: Api) -> None:
        org_id = organisation(api)
        with api.client(key(api, org_id)) as client:
            _turn(api, org_id, _run(client, "mine"), 1)
        with api.client(key(api, organisation(api))) as stranger:
            assert stranger.get("/api/v1/usage").json()["total"]["turns"] == 0


class TestAllotments:
    def test_a_balance_is_set_topped_up_spent_and_taken_away(self, api: Api, operator: httpx2.Client) -> None:
        org_id = organisation(api)
        path = f"/api/v1/ops/organisations/{org_id}"
        assert operator.patch(path, json={"top_up": 5}).json()["code"] == "no_balance"
        assert operator.patch(path, json={"balance": 0}).json()["balance"] == 0.0
        with api.client(key(api, org_id)) as client:
            manifest = {"name": "@default/paying", "version": "1.0.0"}
            assert client.post("/api/v1/agents/manifests", json=manifest).status_code == 201
            refused = client.post("/api/v1/agents/paying/run", json={"query": "x"})
            assert (refused.status_code, refused.json()["code"]) == (402, "quota_exceeded")
            assert operator.patch(path, json={"top_up": 2.5}).json()["balance"] == 2.5
            assert client.post("/api/v1/agents/paying/run", json={"query": "x"}).status_code == 202
        assert operator.patch(path, json={"balance": None}).json()["balance"] is None

    def test_a_share_of_the_workers_is_what_fairness_deals_by(
        self, api: Api, operator: httpx2.Client
    ) -> None:
        org_id = organisation(api)
        changed = operator.patch(f"/api/v1/ops/organisations/{org_id}", json={"weight": 3})
        assert changed.json()["weight"] == 3.0
        with api.state.store.read() as conn:
            lane = conn.execute(Lane.__table__.select().where(Lane.lane == org_id)).one()
        assert lane.weight == 3.0
        assert operator.patch(f"/api/v1/ops/organisations/{org_id}", json={"weight": 0}).status_code == 400

    def test_a_closed_organisation_may_not_call_until_it_is_opened(
        self, api: Api, operator: httpx2.Client
    ) -> None:
        org_id = organisation(api)
        path = f"/api/v1/ops/organisations/{org_id}"
        with api.client(key(api, org_id)) as client:
            assert client.get("/tasks").status_code == 200
            assert operator.patch(path, json={"active": False}).json()["active"] is False
            assert client.get("/tasks").json()["code"] == "organisation_inactive"
            assert operator.patch(path, json={"active": True}).json()["active"] is True
            assert client.get("/tasks").status_code == 200

    def test_an_organisation_that_is_being_erased_stays_closed(
        self, api: Api, operator: httpx2.Client
    ) -> None:
        org_id = organisation(api)
        path = f"/api/v1/ops/organisations/{org_id}"
        with api.state.store.begin() as tx:
            erasures.begin(tx, org_id)
        refused = operator.patch(path, json={"active": True})
        assert (refused.status_code, refused.json()["code"]) == (409, "erasure_begun")
        changed = operator.patch(path, json={"weight": 2})
        assert (changed.status_code, changed.json()["active"]) == (200, False)

    def test_the_operators_own_organisation_stays_active(self, api: Api, operator: httpx2.Client) -> None:
        own = operator.get("/api/v1/organisation").json()["id"]
        refused = operator.patch(f"/api/v1/ops/organisations/{own}", json={"active": False})
        assert (refused.status_code, refused.json()["code"]) == (409, "own_organisation")

    def test_organisations_are_listed_by_page_for_the_operator_alone(
        self, api: Api, operator: httpx2.Client
    ) -> None:
        made = {organisation(api) for _ in range(3)}
        seen: list[str] = []
        cursor = ""
        while True:
            found = operator.get(f"/api/v1/ops/organisations?limit=2{cursor}").json()
            seen += [row["id"] for row in found["data"]]
            if not found["has_more"]:
                break
            cursor = f"&cursor={found['next_cursor']}"
        assert made <= set(seen)
        assert seen == sorted(set(seen), reverse=True)
        mine = min(made)
        with api.client(key(api, mine)) as tenant:
            assert tenant.get("/api/v1/ops/organisations").json()["code"] == "operator_only"
            allotted = {"balance": 1_000}
            assert tenant.patch(f"/api/v1/ops/organisations/{mine}", json=allotted).status_code == 403
            assert tenant.patch(f"/api/v1/ops/organisations/{max(made)}", json=allotted).status_code == 404
            assert tenant.patch(f"/api/v1/ops/organisations/{uuid7()}", json=allotted).status_code == 404


def _run(client: httpx2.Client, name: str) -> dict[str, Any]:
    published = client.post("/api/v1/agents/manifests", json={"name": f"@default/{name}", "version": "1.0.0"})
    assert published.status_code == 201, published.text
    accepted = client.post(f"/api/v1/agents/{name}/run", json={"query": "x"})
    assert accepted.status_code == 202, accepted.text
    return dict(accepted.json())
