"""Connections and calls that last are bounded: callers that say nothing, or hold streams, leave room for others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard_api.http.protocol import BoundedProtocol
from runyard_common.files import CHUNK_BYTES
from runyard_launch.supervisor import process
from tests import databases
from tests.api_server import Api
from tests.members import key
from tests.ports import free_port
from tests.stack import PYTHONPATH, ROOT
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)
DESCRIPTORS = 256


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers have a second for the head of a request, and for what they send after the last answer."""
    monkeypatch.setattr(BoundedProtocol, "patience", 1.0)
    monkeypatch.setattr(BoundedProtocol, "linger_seconds", 1.0)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path / "home", max_streams=3) as api:
        yield api


def connected(api: Api, sent: bytes = b"") -> socket.socket:
    port = int(api.url.rpartition(":")[2])
    caller = socket.create_connection(("127.0.0.1", port), timeout=20)
    caller.sendall(sent)
    return caller


def rest_of(caller: socket.socket) -> bytes:
    """What comes until the server closes."""
    came = b""
    with closing(caller), suppress(ConnectionResetError):  # it had closed when the last bytes were sent
        while piece := caller.recv(4096):
            came += piece
    return came


@pytest.mark.parametrize(
    "head",
    [
        b"POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n",
        b"POST /nope HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n",
    ],
)
def test_a_body_that_drips_on_after_its_answer_ends_with_the_connection(
    hurried: None, api: Api, head: bytes
) -> None:
    with closing(connected(api, head)) as caller:
        caller.recv(4096)
        piece = b"1\r\nx\r\n" if b"chunked" in head else b"x"
        wait_until(lambda: _is_closed(caller, piece), every=0.2)


def test_a_connection_whose_body_ends_after_its_answer_has_a_clock_too(hurried: None, api: Api) -> None:
    caller = connected(api, b"POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
    assert b"404" in caller.recv(4096)
    caller.sendall(b"{}")
    assert b"HTTP/1.1" not in rest_of(caller)


def test_an_answer_that_is_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    monkeypatch.setattr(BoundedProtocol, "unread_seconds", 0.5)
    lost, before = threading.Event(), BoundedProtocol.connection_lost

    def noted(self: BoundedProtocol, error: Exception | None) -> None:
        before(self, error)
        lost.set()

    monkeypatch.setattr(BoundedProtocol, "connection_lost", noted)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with closing(connected(api, request * 20)):
        assert lost.wait(50)
    with closing(connected(api, request)) as reader:
        assert reader.recv(15).startswith(b"HTTP/1.1 200"), "who reads gets it"


LARGE = 8_000_000  # more than the kernel keeps for a caller that does not read


@pytest.fixture
def stocked(tmp_path: Path) -> Iterator[tuple[Api, str]]:
    """A server that may hold three large answers of an organisation and four in all, and a run with a large one."""
    bounds: dict[str, Any] = {
        "max_unread_bytes": 3 * LARGE + 2**19,
        "max_all_unread_bytes": 4 * LARGE + 2**20,
    }
    with Api(tmp_path / "home", **bounds) as api, api.client() as client:
        client.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
        yield api, _large_run(client)


def _large_run(client: httpx2.Client) -> str:
    made = client.post("/api/v1/agents/chat/run", json={"query": "x", "args": {"t": "x" * LARGE}})
    return str(made.raise_for_status().json()["task_id"])


def _unread(api: Api, task_id: str, token: str = "") -> socket.socket:
    """Ask for a large answer, and do not read it."""
    return _asked(api, f"/tasks/{task_id}", token)


def _asked(api: Api, path: str, token: str = "") -> socket.socket:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token or api.key}\r\n\r\n"
    return connected(api, head.encode())


def _holds(api: Api, org_id: str, size: int) -> bool:
    """Whether the server holds so many bytes of answers for an organisation."""
    return api.state.unread.of(org_id) >= size


def test_an_organisation_has_so_many_bytes_of_answers_that_are_not_read_and_others_more(
    stocked: tuple[Api, str],
) -> None:
    api, task_id = stocked
    with api.client() as client, ExitStack() as streams:
        made = client.post("/api/v1/organisations", json={"name": "Other", "owner_email": "o@example.com"})
        other_key = key(api, made.json()["id"])
        for number in range(1, 4):
            streams.enter_context(closing(_unread(api, task_id)))
            wait_until(partial(_holds, api, api.state.org_id, number * LARGE))
        refused = client.get(f"/tasks/{task_id}")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_unread_bytes")
        assert int(refused.headers["retry-after"]) > 0
        assert client.get(f"/tasks/{task_id}/summary").status_code == 200, "a small answer has room"
        with api.client(other_key) as other:
            other.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
            theirs = _large_run(other)
            assert len(other.get(f"/tasks/{theirs}").content) > LARGE, "the bound is each organisation's"
            wait_until(lambda: api.state.unread.of(made.json()["id"]) == 0)
            streams.enter_context(closing(_unread(api, theirs, other_key)))
            wait_until(partial(_holds, api, made.json()["id"], LARGE))
            full = other.get(f"/tasks/{theirs}")
            assert (full.status_code, full.json()["code"]) == (503, "no_room_for_answers")
            assert int(full.headers["retry-after"]) > 0
        streams.close()
        wait_until(lambda: api.state.unread.of(api.state.org_id) == 0)
        assert len(client.get(f"/tasks/{task_id}").content) > LARGE
    wait_until(lambda: api.state.unread.of(api.state.org_id) == 0)


def test_a_download_counts_what_it_has_in_memory(stocked: tuple[Api, str]) -> None:
    api, _ = stocked
    with api.client() as client:
        files = {"a": ("a.bin", b"x" * LARGE)}
        made = client.post("/api/v1/agents/chat/run", data={"query": "x"}, files=files).raise_for_status()
        file_id = client.get(f"/tasks/{made.json()['task_id']}").json()["input"]["files"][0]["id"]
        path = f"/api/v1/files/{file_id}"
        with closing(_asked(api, path)):
            wait_until(partial(_holds, api, api.state.org_id, CHUNK_BYTES))
            assert api.state.unread.of(api.state.org_id) < LARGE
        wait_until(lambda: api.state.unread.of(api.state.org_id) == 0)
        assert len(client.get(path).content) == LARGE


def _is_closed(caller: socket.socket, piece: bytes) -> bool:
    """Whether the server has closed: it takes no more."""
    try:
        caller.sendall(piece)
    except OSError:
        return True
    return False


def test_a_caller_that_sends_nothing_is_disconnected(hurried: None, api: Api) -> None:
    assert rest_of(connected(api)) == b""


@pytest.mark.parametrize("began", [b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"GET /he", b"G"])
def test_a_head_that_does_not_end_is_answered_408(hurried: None, api: Api, began: bytes) -> None:
    answer = rest_of(connected(api, began))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer


def test_a_head_that_comes_in_drops_has_the_same_time_as_another(hurried: None, api: Api) -> None:
    caller = connected(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    with closing(caller):
        wait_until(lambda: _drop(caller), every=0.2)


def _drop(caller: socket.socket) -> bool:
    """Send one more header; whether the server is gone."""
    try:
        caller.sendall(b"x-a: b\r\n")
    except OSError:
        return True
    return False


def test_the_second_head_on_a_connection_has_a_clock_too(hurried: None, api: Api) -> None:
    caller = connected(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    first = caller.recv(4096)
    assert first.startswith(b"HTTP/1.1 200 ")
    caller.sendall(b"GET /healthz HTTP/1.1\r\nHo")
    assert b"HTTP/1.1 408 " in rest_of(caller)


def test_an_answer_that_takes_longer_than_a_head_may_is_not_cut_off(hurried: None, api: Api) -> None:
    with api.client() as client:
        client.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
        task_id = client.post("/api/v1/agents/chat/run", json={"query": "x"}).json()["task_id"]
        began = time.monotonic()
        assert client.get(f"/tasks/{task_id}?wait=3").json()["status"] == "pending"
        assert time.monotonic() - began > 2.5
        time.sleep(1.5)  # an idle connection is no head that does not end
        assert client.get("/healthz").status_code == 200


def test_a_body_that_stops_is_answered_408_and_its_connection_closed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard_api.http.request_body.PATIENCE", 1.0)
    head = (
        "POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {api.key}\r\nContent-Length: 100\r\n\r\n{{"
    )
    answer = rest_of(connected(api, head.encode()))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: b\r\n"], ids=["none", "two"])
def test_a_request_carries_one_host_header(api: Api, hosts: str) -> None:
    answer = rest_of(connected(api, f"GET /healthz HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode()))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_host" in answer


def test_old_clients_need_no_host_header(api: Api) -> None:
    assert rest_of(connected(api, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


def test_one_organisation_may_keep_so_many_streams_and_waits_and_others_more(api: Api) -> None:
    with api.client() as client, ExitStack() as streams:
        made = client.post("/api/v1/organisations", json={"name": "Other", "owner_email": "o@example.com"})
        client.post("/api/v1/agents", json={"name": "chat"}).raise_for_status()
        task_id = client.post("/api/v1/agents/chat/run", json={"query": "x"}).json()["task_id"]
        for _ in range(3):
            streams.enter_context(client.stream("GET", f"/tasks/{task_id}/events"))
        refused = client.get("/api/v1/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        assert int(refused.headers["retry-after"]) > 0
        assert client.get(f"/tasks/{task_id}?wait=5").status_code == 429
        assert client.get(f"/tasks/{task_id}").status_code == 200
        with (
            api.client(key(api, made.json()["id"])) as other,
            other.stream("GET", "/api/v1/events") as stream,
        ):
            assert stream.status_code == 200
        streams.close()
        wait_until(lambda: client.get(f"/tasks/{task_id}?wait=0.1").status_code == 200)


def test_a_process_with_few_descriptors_serves_others_beside_hundreds_of_idle_connections(home: Path) -> None:
    port = free_port()
    databases.opened(f"sqlite:///{home / 'runyard.db'}").close()
    env = os.environ | {"RUNYARD_HOME": str(home), "RUNYARD_PORT": str(port), "PYTHONPATH": PYTHONPATH}
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}));"
    argv = [sys.executable, "-c", f"{limit} from runyard_api.__main__ import main; main()"]
    api = process.spawn(argv, log=home / "api.log", env=env, cwd=ROOT)
    idle: list[socket.socket] = []
    try:
        wait_until(lambda: _healthy(port), seconds=60)
        idle.extend(
            socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(DESCRIPTORS + 50)
        )
        wait_until(lambda: _healthy(port), seconds=30)  # at the latest when the idle ones' time is over
        assert api.poll() is None
    finally:
        for caller in idle:
            caller.close()
        process.end(api, grace=5)
    assert "Too many open files" not in (home / "api.log").read_text()


def _healthy(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def test_a_process_takes_all_the_descriptors_it_may_have() -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300));"
        "from runyard_common.process import *; raise_descriptor_limit(); print(descriptor_limit())"
    )
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["300"]


PAGE = {"origin": "https://app.example"}
PREFLIGHT = PAGE | {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization",
}


def test_pages_of_other_origins_may_call_where_the_operator_allows_it(tmp_path: Path) -> None:
    with Api(tmp_path / "home", allowed_origins="https://app.example, https://other.example") as api:
        with api.client() as client:
            asked = client.options("/api/v1/agents/chat/run", headers=PREFLIGHT)
            assert asked.status_code == 200
            assert asked.headers["access-control-allow-origin"] == "https://app.example"
            assert "authorization" in asked.headers["access-control-allow-headers"].lower()
            assert "POST" in asked.headers["access-control-allow-methods"]
            answer = client.get("/api/v1/tasks", headers=PAGE)
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert "access-control-allow-credentials" not in answer.headers
            refused = client.get("/api/v1/tasks", headers={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in refused.headers
        with httpx2.Client(base_url=api.url) as stranger:
            unknown = stranger.get("/api/v1/tasks", headers=PAGE)
            assert unknown.status_code == 401
            assert unknown.headers["access-control-allow-origin"] == "https://app.example", (
                "errors are readable"
            )


def test_without_the_setting_no_other_origin_may_call(api: Api) -> None:
    with api.client() as client:
        assert "access-control-allow-origin" not in client.get("/api/v1/tasks", headers=PAGE).headers


@pytest.mark.parametrize("wrong", ["app.example", "https://app.example/path", "ftp://app.example"])
def test_an_origin_that_is_none_ends_the_start_with_a_sentence(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(Exception, match=r"RUNYARD_ALLOWED_ORIGINS: .* is no origin"):
        Api(tmp_path / "home", allowed_origins=wrong)
