"""An MCP server whose every answer may be scripted: odd tools, odd results, failures, forgotten sessions.

with OddMcp() as server:
    server.tools = [{"name": "look", "inputSchema": {}}]
    server.fail("tools/call", 502)               # the next request of this method
    server.result = {"structuredContent": {"a": 1}}
    ... server.url ... server.methods ...

Source: Model Context Protocol specification, 2025-11-25, "Transports", "Tools".
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.served import served

READ = {"readOnlyHint": True}
GOOD = {"name": "good", "description": "Works.", "inputSchema": {"type": "object"}, "annotations": READ}


@dataclass
class OddMcp:
    """Use as a context manager. `calls` are the names of the tools that were called and answered."""

    tools: Any = field(default_factory=lambda: [GOOD])
    result: Any = field(default_factory=lambda: {"content": [{"type": "text", "text": "done"}]})
    events: bool = False  # answers as a stream instead of JSON
    methods: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    forgets_with: int = 404
    _script: dict[str, deque[Response | float]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        routes = [Route("/mcp", self._serve, methods=["POST", "GET", "DELETE"])]
        self._served = served(Starlette(routes=routes), "odd-mcp")
        self.url = f"{self._served.__enter__()}/mcp"
        return self

    def __exit__(self, *error: Any) -> None:
        self._served.__exit__(*error)

    def fail(self, method: str, status: int, times: int = 1, body: str = "no", **headers: str) -> None:
        """Answer the next requests of a method with this status."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        for _ in range(times):
            self.answer(method, PlainTextResponse(body, status, headers=names))

    def answer(self, method: str, answer: Response) -> None:
        """Answer the next request of a method with this."""
        self._script.setdefault(method, deque()).append(answer)

    def forget(self) -> None:
        """Lose all sessions, as a restart does."""
        self.sessions.clear()

    async def _serve(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405)
        message = json.loads(await request.body())
        method = message.get("method", "")
        self.methods.append(method)
        if scripted := self._script.get(method):
            answer = scripted.popleft()
            assert isinstance(answer, Response)
            return answer
        if method == "initialize":
            return self._begin(message)
        if method.startswith("server/"):
            return self._reply(message, error={"code": -32601, "message": "Method not found"})
        if request.headers.get("mcp-session-id") not in self.sessions:
            return PlainTextResponse("Bad Request: no valid session ID", self.forgets_with)
        if "id" not in message:
            return Response(status_code=202)
        if method == "tools/list":
            return self._reply(message, result={"tools": self.tools})
        if method == "tools/call":
            self.calls.append(message["params"]["name"])
            return self._reply(message, result=self.result)
        return self._reply(message, error={"code": -32601, "message": "Method not found"})

    def _begin(self, message: dict[str, Any]) -> Response:
        session = uuid.uuid4().hex
        self.sessions.add(session)
        result = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "odd", "version": "1"},
        }
        answer = self._reply(message, result=result)
        answer.headers["mcp-session-id"] = session
        return answer

    def _reply(self, message: dict[str, Any], **more: Any) -> Response:
        body = {"jsonrpc": "2.0", "id": message.get("id")} | more
        if self.events and message.get("method") != "initialize":
            return Response(f"event: message\ndata: {json.dumps(body)}\n\n", media_type="text/event-stream")
        return (
            JSONResponse(body)
            if not self._is_odd(body)
            else Response(json.dumps(body), media_type="application/json")
        )

    @staticmethod
    def _is_odd(body: Any) -> bool:
        """Whether the framework would refuse to write it."""
        return "ud8" in json.dumps(body) or "NaN" in json.dumps(body)
