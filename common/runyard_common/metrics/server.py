"""`/metrics` of one process, on a port and threads of its own, so that a blocked event loop shows all the same.

A scrape is small and comes every few seconds, so a handful of connections at once, each of a few seconds, is enough.
What is not such a request is refused or cut off.
"""

from __future__ import annotations

import hmac
import io
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

PATH: Final = "/metrics"
#: Connections at once; further ones are closed.
CONNECTIONS: Final = 8
#: How long a request may take to come, in seconds, and how large its head may be, in bytes.
PATIENCE: Final = 5.0
LONGEST_HEAD: Final = 16_384
#: Ports tried from the one that is wanted on, so that the processes of a host can share a setting.
PORTS: Final = 100


class MetricsServer(socketserver.ThreadingTCPServer):
    """Started by `serve`. It listens from its construction on; `OSError` where no port is free."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, registry: CollectorRegistry, host: str, port: int, token: str = "") -> None:
        """`port` 0 takes a free one. `token` is asked for as a bearer token, unless it is empty."""
        self.registry = registry
        self.token = token
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._serving = False
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for tried in range(port, min(port + PORTS, 65_536)) if port else [0]:
            try:
                super().__init__((host, tried), _Handler)
                break
            except OSError as error:
                refused = error
        else:
            raise refused

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def serve(self) -> None:
        """Answer, on a thread, until `close`."""
        self._serving = True
        threading.Thread(target=self.serve_forever, args=(0.5,), name="metrics", daemon=True).start()

    def close(self) -> None:
        """End."""
        if self._serving:
            self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread, where one of the connections is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is nothing to log."""


class _Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    server: MetricsServer
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def handle(self) -> None:
        """Take the head of a request within `PATIENCE`, in however many pieces it comes, and answer it."""
        if (head := self._head()) is not None:
            self.connection.settimeout(PATIENCE)
            self.rfile = io.BufferedReader(io.BytesIO(head))
            self.close_connection = True
            self.handle_one_request()

    def _head(self) -> bytes | None:
        end, head = time.monotonic() + PATIENCE, b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            left = end - time.monotonic()
            if left <= 0 or len(head) > LONGEST_HEAD:
                return None
            self.connection.settimeout(left)
            piece = self.connection.recv(4096)
            if not piece:
                return head or None
            head += piece
        return head

    def do_GET(self) -> None:
        """Answer a scrape in the format that it asks for: OpenMetrics has exemplars, the plain text has none."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, "See /metrics.")
        elif not self._may_read():
            self.send_error(401, "Send the metrics token: Authorization: Bearer <token>.")
        else:
            encode, content_type = choose_encoder(self.headers.get("accept", ""))
            self._answer(encode(self.server.registry), content_type)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _may_read(self) -> bool:
        return allows(self.server.token, self.headers.get("authorization", ""))

    def version_string(self) -> str:
        """What the header `Server` names: no versions."""
        return "runyard"

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not logged."""


def allows(token: str, authorization: str) -> bool:
    """Whether this header has the token; without one all may read."""
    if not token:
        return True
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
