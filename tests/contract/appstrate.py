"""What the tests of the appstrate contract share: fresh keys, problems, agents to run, frames of a stream."""

from __future__ import annotations

import itertools
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx2

from tests.contract.live import Live
from tests.waiting import wait_until

_numbers = itertools.count(1)
ENDED = {"success", "failed", "timeout", "cancelled"}
REQUEST_ID = re.compile(r"req_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def problem(answer: httpx2.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """The problem document, checked to be one of the contract's."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail", "code", "requestId"}
    assert body["code"] == code, body
    assert body["status"] == status
    assert body["type"] == "https://docs.appstrate.dev/errors/" + code.replace("_", "-")
    assert body["instance"] == f"urn:appstrate:request:{body['requestId']}"
    if param is not None:
        assert body["param"] == param
    return body


def caller(live: Live, role: str = "admin", scopes: list[str] | None = None, **options: Any) -> httpx2.Client:
    """A client with a key of its own, so that no test meets another's rate limits."""
    return live.client(live.key_of(role, scopes), **options)


def start(client: httpx2.Client, package: str, body: Any = None, **options: Any) -> httpx2.Response:
    """Run an agent."""
    given = {"input": {} if body is None else body}
    return client.post(f"/api/agents/{package}/run", json=given, **options)


def run_id(client: httpx2.Client, package: str, body: Any = None, **options: Any) -> str:
    """The id of a run just started."""
    answer = start(client, package, body, **options)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["runId"])


def ended(client: httpx2.Client, id_: str) -> dict[str, Any]:
    """The run once it has ended."""

    def look() -> dict[str, Any] | None:
        run: dict[str, Any] = client.get(f"/api/runs/{id_}").json()
        return run if run["status"] in ENDED else None

    found = wait_until(look, seconds=30)
    assert found
    return found


def publish(client: httpx2.Client, schema: Any = None, **manifest: Any) -> str:
    """A new declared agent through the native API; its package name."""
    name = f"@appstrate/agent-{next(_numbers)}"
    whole = {
        "name": name,
        "version": "1.0.0",
        "instructions": "Do it.",
        "model": "openai:scripted",
    } | manifest
    if schema is not None:
        whole["input"] = {"schema": schema} | whole.get("input", {})
    made = client.post("/api/v1/agents/manifests", json=whole)
    assert made.status_code == 201, made.text
    return name


def fresh(prefix: str) -> str:
    """An unused name."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def made(answer: httpx2.Response, status: int = 201) -> dict[str, Any]:
    """The body of a success."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body


class Receiver:
    """A webhook receiver on loopback that answers 200; use as a context manager."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
