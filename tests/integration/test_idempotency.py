"""Idempotency-Key over HTTP: raced requests, failures of the server and processes that die, on both kinds of front."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from runyard_api import idempotency as idempotency_api
from runyard_api.fronts import operations
from runyard_api.native.front import NATIVE
from runyard_common.identity.service import idempotency as idempotency_service
from runyard_common.identity.service.idempotency import KEPT, LEASE
from runyard_common.runs.service import submissions
from runyard_common.values.ids import uuid7
from tests.api_server import Api
from tests.waiting import wait_until

NAME = "@test/agent"
#: A run through each front whose POST answers at once, and where the answer names it.
RUNS = {
    "native": (f"/api/v1/agents/{NAME}/run", {"query": "hi"}, "task_id"),
    "appstrate": (f"/api/agents/{NAME}/run", {"input": {}}, "runId"),
    "agentbase": (f"/?agent={NAME}", {"message": "hi", "background": True}, "taskId"),
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server without workers: what it accepts stays pending."""
    home = tmp_path_factory.mktemp("idempotency") / "home"
    settings = {"model": "openai:scripted", "model_base_url": "http://127.0.0.1:9/v1"}
    with Api(home, **settings) as server:
        with server.client() as client:
            manifest = {"name": NAME, "version": "1.0.0", "instructions": "Answer."}
            client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        yield server


@pytest.fixture
def key(api: Api) -> str:
    """A key of the test's own, so that no test meets another's rate limits."""
    with api.client() as client:
        return str(client.post("/api/v1/keys", json={"name": "own", "role": "admin"}).json()["key"])


@pytest.fixture
def client(api: Api, key: str) -> Iterator[httpx2.Client]:
    """A client with that key."""
    with api.client(key) as client:
        yield client


@contextmanager
def broken_tables(api: Api) -> Iterator[None]:
    """Meanwhile no task can be stored, as on a database that was only half restored."""
    with api.state.store.begin() as tx:
        tx.conn.execute(text("ALTER TABLE tasks RENAME TO tasks_away"))
    try:
        yield
    finally:
        with api.state.store.begin() as tx:
            tx.conn.execute(text("ALTER TABLE tasks_away RENAME TO tasks"))


def test_every_native_post_that_creates_takes_a_key() -> None:
    keyless = {
        operation.name
        for operation in operations()
        if operation.front is NATIVE
        and operation.method == "POST"
        and any(answer.status == 201 for answer in operation.answers)
        and "Idempotency-Key" not in operation.headers
    }
    assert keyless == {"native.accept_invitation"}  # who calls belongs to no organisation yet


@pytest.mark.parametrize("front", RUNS)
def test_raced_requests_make_one_run(api: Api, key: str, front: str) -> None:
    path, body, name = RUNS[front]
    headers = {"idempotency-key": f"raced-{front}"}
    before = api.count_tasks()

    async def race() -> list[httpx2.Response]:
        async with api.async_client(key) as client:
            return await asyncio.gather(*(client.post(path, json=body, headers=headers) for _ in range(20)))

    answers = asyncio.run(race())
    accepted = [answer for answer in answers if answer.is_success]
    assert {answer.status_code for answer in answers} - {accepted[0].status_code} <= {409}
    assert len({answer.json()[name] for answer in accepted}) == 1
    assert api.count_tasks() == before + 1


@pytest.mark.parametrize("front", RUNS)
def test_a_failure_of_the_server_frees_the_key(api: Api, client: httpx2.Client, front: str) -> None:
    path, body, name = RUNS[front]
    headers = {"idempotency-key": f"failed-{front}"}
    before = api.count_tasks()
    with broken_tables(api):
        failed = client.post(path, json=body, headers=headers)
        assert failed.status_code >= 500, failed.text

    answer = client.post(path, json=body, headers=headers)

    assert answer.is_success, answer.text
    assert "idempotent-replayed" not in answer.headers
    assert client.post(path, json=body, headers=headers).json()[name] == answer.json()[name]
    assert api.count_tasks() == before + 1


@pytest.mark.parametrize("front", RUNS)
def test_the_run_of_a_process_that_died_is_the_answer_at_once(
    api: Api, client: httpx2.Client, front: str
) -> None:
    path, body, name = RUNS[front]
    key = f"died-{front}"
    first = client.post(path, json=body, headers={"idempotency-key": key}).json()[name]
    before = api.count_tasks()

    as_if_it_had_died(api, key, first.removeprefix("exec_"), lease_until=9e12)
    again = client.post(path, json=body, headers={"idempotency-key": key})

    assert again.is_success, again.text
    assert again.json()[name] == first
    assert api.count_tasks() == before


@pytest.mark.parametrize("front", RUNS)
def test_a_key_whose_process_died_before_it_stored_the_run_is_taken_over_once_its_lease_is_over(
    api: Api, client: httpx2.Client, front: str
) -> None:
    path, body, name = RUNS[front]
    key, reserved = f"unstored-{front}", uuid7()
    client.post(path, json=body, headers={"idempotency-key": key})

    as_if_it_had_died(api, key, reserved, lease_until=9e12)
    assert client.post(path, json=body, headers={"idempotency-key": key}).status_code == 409

    as_if_it_had_died(api, key, reserved, lease_until=1)
    again = client.post(path, json=body, headers={"idempotency-key": key})
    assert again.is_success, again.text
    assert again.json()[name].removeprefix("exec_") == reserved


def as_if_it_had_died(api: Api, key: str, task_id: str, lease_until: float) -> None:
    """The run is stored, but its answer is not; what is left is the lease."""
    unfinished = (
        "UPDATE idempotency SET status = NULL, body = NULL, lease_until = :l, headers = :h WHERE key = :k"
    )
    values: dict[str, Any] = {"l": lease_until, "k": key, "h": json.dumps({"reserved": task_id})}
    with api.state.store.begin() as tx:
        assert tx.conn.execute(text(unfinished), values).rowcount == 1


def test_a_dead_process_s_lease_ends_within_the_promised_recovery() -> None:
    assert LEASE < 15
    assert KEPT == 24 * 3600


def test_a_live_process_extends_its_lease(
    api: Api, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing takes longer than the lease: meanwhile no other caller takes the key over."""
    monkeypatch.setattr(idempotency_service, "LEASE", 1.5)
    monkeypatch.setattr(idempotency_api, "LEASE", 1.5)
    path, body, _ = RUNS["native"]
    headers = {"idempotency-key": "slow"}
    started, stores, commit = threading.Event(), threading.Event(), api.state.writer.call

    async def slow(batch: Any, command: Any) -> Any:
        if batch is submissions.submit_remembered:
            started.set()
            await asyncio.to_thread(stores.wait, 60)
        return await commit(batch, command)

    monkeypatch.setattr(api.state.writer, "call", slow)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(client.post, path, json=body, headers=headers)
        assert started.wait(30)
        first_end = _lease_until(api, "slow")
        wait_until(lambda: api.state.now() > first_end and _lease_until(api, "slow") > api.state.now() + 0.5)
        assert client.post(path, json=body, headers=headers).status_code == 409
        stores.set()
        assert first.result(30).status_code == 202


def _lease_until(api: Api, key: str) -> float:
    with api.state.store.read() as conn:
        found = conn.execute(text("SELECT lease_until FROM idempotency WHERE key = :k"), {"k": key})
        return float(found.scalar_one())


def test_replays_survive_a_restart(tmp_path: Path) -> None:
    path, body, name = RUNS["native"]
    headers = {"idempotency-key": "durable"}
    settings = {"model": "openai:scripted", "model_base_url": "http://127.0.0.1:9/v1"}
    ids = []
    for _ in range(2):
        with Api(tmp_path / "home", **settings) as api, api.client() as client:
            client.post(
                "/api/v1/agents/manifests", json={"name": NAME, "version": "1.0.0", "instructions": "Answer."}
            )
            answer = client.post(path, json=body, headers=headers)
            ids.append(answer.json()[name])
    assert ids[0] == ids[1]
    assert answer.headers["idempotent-replayed"] == "true"
