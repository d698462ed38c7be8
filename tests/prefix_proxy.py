"""A reverse proxy on loopback that serves another server under a path, as nginx does with `location /runyard/`."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.waiting import wait_until

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


_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_max_body_size 200m; proxy_buffering off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{ proxy_pass {upstream}/; proxy_set_header Host $http_host; }}
  }}
}}
"""
NGINX = Path("/usr/sbin/nginx")


@contextmanager
def nginx(upstream: str, port: int, folder: Path, prefix: str = "/runyard") -> Iterator[Proxy]:
    """Debian's nginx before `upstream`, as docs/operations.md shows it."""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, prefix=prefix, upstream=upstream))
    command: list[str | Path] = [NGINX, "-p", folder, "-c", config, "-e", folder / "error.log"]
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port) or running.poll() is not None)
        assert running.poll() is None, (folder / "error.log").read_text()
        yield Proxy(f"http://127.0.0.1:{port}{prefix}", [])
    finally:
        running.terminate()
        running.wait(50)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def proxied(upstream: str, port: int, prefix: str = "/runyard", strip: bool = True) -> Iterator[Proxy]:
    """The proxy before `upstream` (an http URL); `strip`: whether it takes the prefix off."""
    seen: list[str] = []
    fields = {"upstream": urlsplit(upstream).netloc, "prefix": prefix, "strip": strip, "seen": seen}
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), fields))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Proxy(f"http://127.0.0.1:{port}{prefix}", seen)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(50)
