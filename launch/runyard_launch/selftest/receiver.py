"""A receiver of webhooks: it verifies each signature, and answers the first call of each run with an error."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from runyard_common.webhooks.rules.signing import SignatureInvalid, verify


class Receiver:
    """Listens on a port of its own on loopback. Close it last."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        self.accepted: Counter[str] = Counter()  # by id, how often each was accepted
        self.order: dict[
            str, list[str]
        ] = {}  # by run, the ids in the order in which they were accepted first
        self.unsigned = 0
        self.failures = 0  # answered with 500
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(receiver.receive(dict(self.headers.items()), body))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing: the report has it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()

    def url(self, run: str) -> str:
        """Where the callbacks of one run go."""
        return f"http://127.0.0.1:{self.port}/{run}"

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        """Note a call; the status of its answer."""
        lower = {name.lower(): value for name, value in headers.items()}
        try:
            verify(self._secret, lower, body)
        except SignatureInvalid:
            with self._lock:
                self.unsigned += 1
            return 401
        run, id_ = str(json.loads(body).get("task_id")), lower["webhook-id"]
        with self._lock:
            if run not in self._refused:
                self._refused.add(run)
                self.failures += 1
                return 500
            self.accepted[id_] += 1
            if self.accepted[id_] == 1:
                self.order.setdefault(run, []).append(id_)
        return 200

    def close(self) -> None:
        """Take no more calls."""
        self._server.shutdown()
        self._server.server_close()
