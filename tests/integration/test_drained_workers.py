"""A worker that an operator drains claims no run, keeps those it has, and claims again once it is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard import Context
from runyard_common.agents.service import fleet
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import workers
from runyard_common.runs.queries.workers import Health
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import claims
from runyard_common.runs.service.claims import Batch, Claim
from tests.api_server import Api
from tests.installation import Installation
from tests.members import key, organisation
from tests.problems import check_problem
from tests.waiting import until

in_process = pytest.mark.anyio


@in_process
async def test_a_drained_worker_ends_what_it_has_and_leaves_the_rest_to_others(database_url: str) -> None:
    go_on = asyncio.Event()

    async def work(ctx: Context, args: dict[str, Any]) -> int:
        if args["waits"]:
            await go_on.wait()
        return ctx.task.attempt

    async with Installation(database_url, lease_seconds=0.8) as site:
        name = site.publish(work)
        engine = await site.engine()
        first = await site.submit(name, {"waits": True})
        await site.until(first, Status.RUNNING)
        await asyncio.to_thread(site.transact, lambda tx: fleet.drain(tx, engine.worker_id))
        second = await site.submit(name, {"waits": False})
        engine.wake()
        await until(lambda: engine._slots.paused)
        assert site.task(second).status is Status.PENDING
        go_on.set()
        assert (await site.ended(first)).output == 1
        assert site.task(second).status is Status.PENDING
        await asyncio.to_thread(site.transact, lambda tx: fleet.resume(tx, engine.worker_id))
        assert (await site.ended(second)).output == 1


@in_process
async def test_a_drained_worker_that_loses_its_lease_begins_the_next_life_drained(database_url: str) -> None:
    async with Installation(database_url, lease_seconds=0.8) as site:
        engine = await site.engine()
        before = engine.worker_id
        await asyncio.to_thread(site.transact, lambda tx: fleet.drain(tx, before))
        await until(lambda: engine._slots.paused)
        await asyncio.to_thread(site.transact, lambda tx: fleet.mark_lost(tx, before))

        def begins_drained() -> bool:
            with site.store.read() as conn:
                return engine.worker_id != before and workers.is_draining(conn, engine.worker_id)

        await until(begins_drained)


@in_process
async def test_no_claim_is_answered_with_a_run_once_the_drain_is_committed(database_url: str) -> None:
    async def work(ctx: Context, args: dict[str, Any]) -> None: ...

    async with Installation(database_url) as site:
        await site.submit(site.publish(work))

        def claim(tx: Tx) -> int:
            [batch] = claims.claim(tx, [Claim("w", 1)])
            assert isinstance(batch, Batch)
            return len(batch.claimed)

        def drain(tx: Tx) -> None:
            workers.enlist(tx, "w", "host", 1, 1, 60.0)
            fleet.drain(tx, "w")
            assert workers.heartbeat(tx, "w", 60.0, Health(running=0, capacity=1))

        await asyncio.to_thread(site.transact, drain)
        assert await asyncio.to_thread(site.transact, claim) == 0
        await asyncio.to_thread(site.transact, lambda tx: fleet.resume(tx, "w"))
        assert await asyncio.to_thread(site.transact, claim) == 1


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path / "home") as api:
        yield api


def test_the_operator_drains_and_resumes_a_worker_and_both_are_in_the_audit_log(api: Api) -> None:
    with api.state.store.begin() as tx:
        workers.enlist(tx, "w1", "host", 7, 4, 60.0, release="shop:42")
        workers.enlist(tx, "w2", "host", 8, 4, 60.0)
        workers.mark_lost(tx, "w2")
    with api.client() as client:
        drained = client.post("/api/v1/ops/workers/w1/drain")
        assert (drained.status_code, drained.json()["state"]) == (200, "drained")
        assert _states(client) == {"w1": "drained", "w2": "lost"}
        assert [row["release"] for row in client.get("/api/v1/ops/workers").json()["data"]] == [
            "shop:42",
            None,
        ]
        assert client.post("/api/v1/ops/workers/w1/drain").status_code == 200
        assert client.post("/api/v1/ops/workers/w1/resume").json()["state"] == "alive"
        check_problem(client.post("/api/v1/ops/workers/w2/drain"), 409, "worker_lost")
        check_problem(client.post("/api/v1/ops/workers/w3/drain"), 404, "worker_not_found", "worker_id")
        noted = client.get("/api/v1/audit", params={"action": "worker"}).json()["data"]
        assert [(one["action"], one["object_id"]) for one in noted] == [
            ("worker.resume", "w1"), ("worker.drain", "w1"), ("worker.drain", "w1"),
        ]  # fmt: skip
        assert noted[0]["data"] == {"host": "host", "pid": 7}
    with api.client(key(api, organisation(api))) as stranger:
        check_problem(stranger.post("/api/v1/ops/workers/w1/drain"), 404, "worker_not_found", "worker_id")


def _states(client: httpx2.Client) -> dict[str, str]:
    return {row["id"]: row["state"] for row in client.get("/api/v1/ops/workers").json()["data"]}


def test_a_limit_shows_what_it_counts_and_the_operators_is_the_operators_to_see(api: Api) -> None:
    with api.client(key(api, organisation(api))) as client:
        manifest = {"name": "@test/one", "version": "1.0.0", "kind": "declared", "instructions": "hi"}
        client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        asked = [{"kind": "agent", "selector": "@test/one"}, {"kind": "session"}, {"kind": "organisation"}]
        made = [client.post("/api/v1/limits", json=one | {"max_concurrent": 1}).json()["id"] for one in asked]
        for session in ("a", "b"):
            body = {"query": "hi", "session_id": session}
            assert client.post("/api/v1/agents/@test/one/run", json=body).status_code == 202
        found = {one["limit_id"]: one["values"] for one in client.get("/api/v1/limits/usage").json()["data"]}
        assert set(found) == set(made)
        counts = [[(one["in_use"], one["waiting"]) for one in found[id_]] for id_ in made]
        assert counts == [[(1, 1)], [(1, 0)], [(1, 0)]]
        assert found[made[0]][0]["value"] == "@test/one"
