"""fakeredis behind a socket, so that the code under test reaches it by its URL as it reaches a real one."""

from __future__ import annotations

import threading
from typing import Any

from fakeredis import TcpFakeServer
from fakeredis._clients._tcp_server import TCPFakeRequestHandler
from redis.exceptions import ResponseError


class _Handler(TCPFakeRequestHandler):
    """fakeredis hangs up behind an error it has answered with, such as NOSCRIPT; a Redis goes on."""

    def setup(self) -> None:
        super().setup()
        writer: Any = self.writer
        dump = writer.dump

        def noted(answer: Any) -> None:
            self._refused = isinstance(answer, ResponseError)
            dump(answer)

        writer.dump = noted

    def handle(self) -> None:
        self._refused = True
        while self._refused:
            self._refused = False
            super().handle()


class FakeRedis:
    """`with FakeRedis() as url`."""

    def __enter__(self) -> str:
        self._server = TcpFakeServer(("127.0.0.1", 0), server_type="redis", server_version=(7, 4))
        self._server.RequestHandlerClass = _Handler
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fakeredis", daemon=True
        )
        self._thread.start()
        return f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(50)
