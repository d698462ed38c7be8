"""A real MCP server in a process of its own: `python -m tests.fakes.mcp_servers PORT TOKEN [sse]`.

Its tools log what they did, so that a test can count calls; `/log` on the port after it gives the log.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp.types import ToolAnnotations
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

ROOT = Path(__file__).parents[2]


def build(log: Path) -> MCPServer:
    """The server with its tools."""
    server = MCPServer("crm")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def find_customer(name: str) -> dict[str, str]:
        """Find a customer by name."""
        _note(log, f"find {name}")
        return {"id": "c-1", "name": name, "plan": "gold"}

    @server.tool()
    def send_letter(to: str) -> str:
        """Send a letter."""
        _note(log, f"letter {to}")
        return f"sent to {to}"

    @server.tool()
    def explode() -> str:
        """Fail."""
        raise ValueError("kaboom")

    @server.tool()
    def die() -> str:
        """End the whole server."""
        os._exit(1)

    return server


def _note(log: Path, line: str) -> None:
    with log.open("a") as out:
        out.write(line + "\n")


class _Bearer(BaseHTTPMiddleware):
    """Lets in only who has the token."""

    token = ""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return PlainTextResponse("who are you?", 401)
        return await call_next(request)


def main() -> None:
    """Serve until killed."""
    port, token, kind, log = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    server = build(log)
    app = server.sse_app() if kind == "sse" else server.streamable_http_app()
    _Bearer.token = "" if token == "-" else token
    app.user_middleware.insert(0, Middleware(_Bearer))
    asyncio.run(uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", ws="none")).serve())


@dataclass
class McpProcess:
    """A running server: its URL, and what its tools did."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def calls(self) -> list[str]:
        """The log's lines."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def kill(self) -> None:
        """End it as by SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextmanager
def mcp_process(folder: Path, token: str = "-", kind: str = "http") -> Iterator[McpProcess]:
    """A server process, up and listening."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"mcp-{port}.log"
    arguments = [sys.executable, "-m", "tests.fakes.mcp_servers", str(port), token, kind, str(log)]
    process = subprocess.Popen(arguments, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    path = "sse" if kind == "sse" else "mcp"
    running = McpProcess(f"http://127.0.0.1:{port}/{path}", log, process)
    try:
        _until_listening(port, process)
        yield running
    finally:
        running.kill()


def _until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 40
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "the MCP server died"
            assert time.monotonic() < deadline, "the MCP server does not listen"
            time.sleep(0.05)


if __name__ == "__main__":
    main()
