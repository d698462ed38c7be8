"""The cost of deleting a worker's pod, noted at the API server as Kubernetes' own clients do, over TLS."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runyard_common.values.errors import ConfigurationError
from runyard_workers.pod import ANNOTATION, NotNoted, Pod, deletion_cost, keep_deletion_cost
from tests.fakes.authority import Authority
from tests.waiting import until

PATH = "/api/v1/namespaces/agents/pods/worker-1"
TOKEN = "the token of the service account"


class ApiServer:
    """Knows one pod, and changes it as an API server does: by its path, a merge patch, and a token that may."""

    def __init__(self, authority: Authority) -> None:
        self.annotations: dict[str, str] = {"kept": "as it is"}
        self.costs: list[str] = []
        self.refused = 0
        self.tokens = {TOKEN}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PATCH(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                code, answer = outer.patch(self.path, self.headers, body)
                content = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = authority.server("localhost").wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def patch(self, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        if headers["authorization"].removeprefix("Bearer ") not in self.tokens:
            self.refused += 1
            return 401, _status("Unauthorized", 401)
        if path != PATH:
            self.refused += 1
            return 403, _status(f"pods is forbidden: cannot patch {path}", 403)
        if headers["content-type"] != "application/merge-patch+json":
            return 415, _status("the body of the request was in an unknown format", 415)
        self.annotations |= json.loads(body)["metadata"]["annotations"]
        self.costs.append(self.annotations[ANNOTATION])
        return 200, {"kind": "Pod", "apiVersion": "v1", "metadata": {"annotations": self.annotations}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _status(message: str, code: int) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[ApiServer]:
    server = ApiServer(authority)
    yield server
    server.close()


@pytest.fixture
def account(tmp_path: Path, authority: Authority) -> Path:
    """What Kubernetes mounts into a pod."""
    folder = tmp_path / "account"
    folder.mkdir()
    for name, text in (("token", TOKEN), ("ca.crt", authority.pem), ("namespace", "agents")):
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def pod(server: ApiServer, account: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "localhost")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    monkeypatch.setenv("POD_NAME", "worker-1")
    return Pod.of_environment(account)


@pytest.mark.parametrize(
    ("in_use", "paused", "cost"),
    [
        (0, True, -1),
        (0, False, 0),
        (1, False, 1),
        (1, True, 1),
        (2, False, 2),
        (3, False, 2),
        (200, False, 128),
    ],
)
def test_an_idle_worker_is_cheaper_than_a_busy_one_and_a_drained_one_the_cheapest(
    in_use: int, paused: bool, cost: int
) -> None:
    assert deletion_cost(in_use, paused) == cost


@pytest.mark.anyio
async def test_the_cost_is_noted_when_it_changes_and_only_then(pod: Pod, server: ApiServer) -> None:
    in_use, looked = 0, 0

    def cost() -> int:
        nonlocal looked
        looked += 1
        return deletion_cost(in_use, False)

    keeping = asyncio.create_task(keep_deletion_cost(pod, cost, every=0.01))
    await until(lambda: server.costs == ["0"])
    in_use, seen = 5, looked
    await until(lambda: looked > seen + 5)
    in_use, seen = 7, looked
    await until(lambda: looked > seen + 5)
    in_use = 0
    await until(lambda: len(server.costs) == 3)
    keeping.cancel()
    assert server.costs == ["0", "4", "0"]
    assert server.annotations == {"kept": "as it is", ANNOTATION: "0"}


@pytest.mark.anyio
async def test_a_refusal_is_tried_again_with_the_token_that_there_is_by_then(
    pod: Pod, server: ApiServer, account: Path
) -> None:
    server.tokens = {"renewed"}
    keeping = asyncio.create_task(keep_deletion_cost(pod, lambda: 0, every=0.01))
    await until(lambda: server.refused > 2)
    (account / "token").write_text("renewed")
    await until(lambda: server.costs == ["0"])
    keeping.cancel()


@pytest.mark.anyio
async def test_a_right_that_is_missing_is_named_in_the_servers_words(
    server: ApiServer, pod: Pod, monkeypatch: pytest.MonkeyPatch, account: Path
) -> None:
    monkeypatch.setenv("POD_NAME", "another")
    with pytest.raises(NotNoted, match="403 pods is forbidden"):
        await Pod.of_environment(account).note(1)


@pytest.mark.anyio
async def test_a_server_of_another_authority_gets_no_token(
    pod: Pod, server: ApiServer, account: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (account / "ca.crt").write_text(Authority(tmp_path / "other").pem)
    with pytest.raises(NotNoted, match="CERTIFICATE_VERIFY_FAILED"):
        await pod.note(1)
    assert (server.costs, server.refused) == ([], 0)


def test_outside_of_a_pod_the_setting_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="RUNYARD_POD_DELETION_COST"):
        Pod.of_environment(tmp_path)
