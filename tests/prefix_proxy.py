"""A reverse proxy on loopback that serves another server under a path, as nginx does with `location /runyard/`."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOPS = {"connection", "keep-alive", "transfer-encoding", "host"}


class _Handler(BaseHTTPRequestHandler):
    upstream = ""
    prefix = ""
    strip = True
    seen: list[str]

    def _forward(self) -> None:
        self.seen.append(self.path)
        if not self.path.startswith(f"{self.prefix}/"):
            self.send_error(404, "outside of the prefix")
            return
        path = self.path.removeprefix(self.prefix) if self.strip else self.path
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOPS}
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(self.command, path, body or None, headers | {"Host": self.headers["host"]})
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOPS:
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(piece)
        except OSError:
            pass  # one of the two has gone
        finally:
            connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _forward  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Proxy:
    """Its address, and the paths it was asked for."""

    def __init__(self, url: str, seen: list[str]) -> None:
        self.url = url
        self.seen = seen


@contextmanager
def proxied(upstream: str, port: int, prefix: str = "/runyard", strip: bool = True) -> Iterator[Proxy]:
    """The proxy before `upstream` (an http URL); `strip`: whether it takes the prefix off."""
    seen: list[str] = []
    fields = {"upstream": urlsplit(upstream).netloc, "prefix": prefix, "strip": strip, "seen": seen}
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), fields))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Proxy(f"http://127.0.0.1:{port}{prefix}", seen)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
