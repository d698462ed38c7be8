"""Clients that go away in the middle of a call: nothing is half done, and nothing stays reserved for them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import text

from runyard_common.identity.service import idempotency as idempotency_service
from runyard_common.runs.service import submissions
from tests.api_server import Api
from tests.waiting import wait_until

NAME = "@test/chat"
NATIVE = f"/api/v1/agents/{NAME}/run"
APPSTRATE = f"/api/agents/{NAME}/run"
FORM = "multipart/form-data; boundary=form"
FILE = b'--form\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + b"x" * 2_000_000


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server without workers: what it accepts stays pending."""
    settings = {"model": "openai:scripted", "model_base_url": "http://127.0.0.1:9/v1"}
    with Api(tmp_path_factory.mktemp("gone") / "home", **settings) as server:
        with server.client() as client:
            manifest = {"name": NAME, "instructions": "Chat."}
            client.post("/api/v1/agents/manifests", json=manifest).raise_for_status()
        yield server


def begin(api: Api, path: str, content_type: str, body: bytes, key: str, missing: int = 0) -> socket.socket:
    """Send a request, of whose body `missing` bytes never come."""
    where = urlsplit(api.url)
    line = socket.create_connection((where.hostname, where.port), timeout=10)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {api.key}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body) + missing}\r\n\r\n"
    )
    line.sendall(head.encode() + body)
    return line


def reserved(api: Api) -> list[str]:
    """The keys that are still reserved for a caller."""
    with api.state.store.read() as conn:
        query = text("SELECT key FROM idempotency WHERE status IS NULL AND lease_until > :now")
        return list(conn.execute(query, {"now": api.state.now()}).scalars())


def open_spools() -> int:
    """How many temporary files of uploads this process has open."""
    links = (link for link in Path("/proc/self/fd").iterdir())
    return sum("(deleted)" in str(link.readlink()) for link in links if link.is_symlink())


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        (NATIVE, "application/json", b'{"query": "hi"'),
        (NATIVE, FORM, FILE),
        (APPSTRATE, "application/json", b'{"input": {'),
        (APPSTRATE, FORM, FILE),
        ("/api/v1/schedules", "application/json", b'{"agent": "@test/chat"'),
        ("/agentbase/index-document", FORM, FILE),
    ],
)
def test_a_body_that_breaks_off_leaves_nothing_behind(
    api: Api, path: str, content_type: str, body: bytes
) -> None:
    before, spools = api.count_tasks(), open_spools()
    key = f"broken {path} {content_type}"
    wait_until(lambda: under_way(api) == 0)  # an answered one may not have ended
    line = begin(api, path, content_type, body, key, missing=1000)
    wait_until(lambda: under_way(api) > 0)  # it reads
    line.close()

    wait_until(lambda: under_way(api) == 0)
    wait_until(lambda: open_spools() <= spools)
    assert api.count_tasks() == before
    assert key not in reserved(api)


def under_way(api: Api) -> int:
    """How many requests are under way."""
    return len(api.server.server_state.tasks)


@pytest.mark.parametrize(("path", "name"), [(NATIVE, "task_id"), (APPSTRATE, "runId")])
def test_a_submit_whose_caller_leaves_before_the_answer_is_stored_once(
    api: Api, client: httpx2.Client, path: str, name: str
) -> None:
    body = b'{"query": "hi"}' if path == NATIVE else b'{"input": {}}'
    before, key = api.count_tasks(), f"left {path}"
    begin(api, path, "application/json", body, key).close()
    wait_until(lambda: api.count_tasks() == before + 1)

    headers = {"idempotency-key": key, "content-type": "application/json"}
    answers = [client.post(path, content=body, headers=headers) for _ in range(2)]

    assert [answer.is_success for answer in answers] == [True, True], answers[0].text
    assert answers[0].json()[name] == answers[1].json()[name]
    assert api.count_tasks() == before + 1


def test_a_cancel_whose_caller_leaves_before_the_answer_is_carried_out(
    api: Api, client: httpx2.Client
) -> None:
    task_id = client.post(NATIVE, json={"query": "hi"}).json()["task_id"]
    begin(api, f"/api/v1/tasks/{task_id}/cancel", "application/json", b"{}", "cancel").close()
    wait_until(lambda: client.get(f"/tasks/{task_id}").json()["status"] == "stopped")


def test_a_request_that_is_cancelled_inside_lets_its_key_go_and_its_run_is_found(
    api: Api, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process has no grace left at its end: the command it waits for is committed all the same."""
    started, commit = threading.Event(), api.state.writer.call

    async def slow(batch: Any, command: Any) -> Any:
        answer = await commit(batch, command)
        if batch is submissions.submit_remembered:
            started.set()
            await asyncio.sleep(60)
        return answer

    monkeypatch.setattr(api.state.writer, "call", slow)
    monkeypatch.setattr(idempotency_service, "LEASE", 600.0)
    before, headers = api.count_tasks(), {"idempotency-key": "cancelled inside"}
    with ThreadPoolExecutor() as threads, httpx2.Client(timeout=30) as raw:
        bearer = headers | {"authorization": f"Bearer {api.key}"}
        first = threads.submit(raw.post, f"{api.url}{NATIVE}", json={"query": "hi"}, headers=bearer)
        assert started.wait(30)
        for task in list(api.server.server_state.tasks):
            api.state.loop.call_soon_threadsafe(task.cancel)
        assert first.exception(30) is not None or first.result().status_code == 500
    monkeypatch.undo()

    wait_until(lambda: "cancelled inside" not in reserved(api))  # its lease has not ended
    again = client.post(NATIVE, json={"query": "hi"}, headers=headers)

    assert again.status_code == 202, again.text
    assert api.count_tasks() == before + 1
