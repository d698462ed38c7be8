"""A scripted model behind the protocols of OpenAI, Anthropic and Google, as strict with its callers as the real ones.

with ModelServer() as server:
    server.answer(calls(lookup={"order": "A1"}), reply("It is on its way."))
    server.when("refund", reply("No."))          # requests whose last user message has this text
    ... server.url (server.root for Anthropic and Google) ... server.requests ...
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes import anthropic_wire, google_wire, openai_wire, responses_wire
from tests.fakes.replies import Reply, calls, fail, odd, raw, reply
from tests.fakes.served import served

__all__ = [
    "ModelServer",
    "Reply",
    "calls",
    "fail",
    "last_user",
    "odd",
    "raw",
    "reply",
    "results_of",
    "system_of",
    "text_of",
    "tools_of",
]


@dataclass
class _Rule:
    matches: Callable[[dict[str, Any]], bool]
    replies: deque[Reply]
    forever: bool = False


@dataclass
class ModelServer:
    """Use as a context manager; `url` is OpenAI's base URL, `root` that of the others.

    `requests` are in the terms of chat completions for every protocol; `received` are as they came.
    Requests without a scripted answer get a 500.
    """

    requests: list[dict[str, Any]] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    respond: Callable[[dict[str, Any]], Reply | None] | None = None
    _rules: list[_Rule] = field(default_factory=list)
    _queue: deque[Reply] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._served = served(self.application(), "model-server")
        self.root = self._served.__enter__()
        self.url = f"{self.root}/v1"
        return self

    def __exit__(self, *error: Any) -> None:
        self._served.__exit__(*error)

    def answer(self, *replies: Reply) -> None:
        """Answer the next requests with these, in order."""
        with self._lock:
            self._queue.extend(replies)

    def when(
        self, text: str | Callable[[dict[str, Any]], bool], *replies: Reply, forever: bool = False
    ) -> Callable[[], None]:
        """Answer requests whose last user message has `text` (or that the function accepts) with these instead, until
        the function that is returned is called."""
        matches = text if callable(text) else (lambda request: str(text) in last_user(request))
        rule = _Rule(matches, deque(replies), forever)
        with self._lock:
            self._rules.append(rule)
        return rule.replies.clear

    def request_about(self, text: str) -> dict[str, Any]:
        """The last request whose last user message has `text`: others may be asking at the same time."""
        return next(request for request in reversed(self.requests) if text in last_user(request))

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/responses", self._responses, methods=["POST"]),
                Route("/v1/messages", self._messages, methods=["POST"]),
                Route("/v1beta/models/{model}:{verb}", self._generate, methods=["POST"]),
            ]
        )

    def _next(self, request: dict[str, Any]) -> Reply:
        with self._lock:
            if self.respond is not None and (reply := self.respond(request)) is not None:
                return reply
            for rule in self._rules:
                if rule.replies and rule.matches(request):
                    return rule.replies[0] if rule.forever else rule.replies.popleft()
            if self._queue:
                return self._queue.popleft()
        return fail(500, code="not_scripted")

    async def _chat(self, request: Request) -> Response:
        return await self._answer(openai_wire, request, await request.json())

    async def _responses(self, request: Request) -> Response:
        return await self._answer(responses_wire, request, await request.json())

    async def _messages(self, request: Request) -> Response:
        return await self._answer(anthropic_wire, request, await request.json())

    async def _generate(self, request: Request) -> Response:
        model, verb = request.path_params["model"], request.path_params["verb"]
        where = {"model": model, "stream": verb == "streamGenerateContent"}
        return await self._answer(google_wire, request, await request.json() | where)

    async def _answer(self, wire: Any, request: Request, body: dict[str, Any]) -> Response:
        """One request in a protocol: judged, noted, and answered as scripted."""
        refused = wire.refusal(request.headers, body)
        if refused is not None:
            return JSONResponse(wire.error(*refused), refused[0])
        seen = wire.seen(body)
        with self._lock:
            self.requests.append(seen)
            self.received.append(body)
            self.headers.append(dict(request.headers))
            self.arrivals.append(time.monotonic())
        reply = self._next(seen)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.hold is not None:
            await asyncio.to_thread(reply.hold.wait, 30)
        if reply.raw is not None:
            return Response(reply.raw, reply.status, media_type=reply.media_type)
        if reply.status >= 400:
            return _failed(wire, reply)
        if body.get("stream"):
            stream = wire.stream(body, reply)
            if reply.change is not None:
                stream = _changed(stream, reply.change)
            return StreamingResponse(stream, media_type="text/event-stream")
        answer = wire.whole(body, reply)
        if reply.change is not None:
            answer = reply.change(answer)
        return Response(json.dumps(answer), media_type="application/json")


async def _changed(stream: AsyncIterator[str], change: Callable[[dict[str, Any]], Any]) -> AsyncIterator[str]:
    """The events of a stream, each with its data changed."""
    async for event in stream:
        head, mark, data = event.partition("data: ")
        yield f"{head}{mark}{json.dumps(change(json.loads(data)))}\n\n" if data.startswith("{") else event


def _failed(wire: Any, reply: Reply) -> JSONResponse:
    body = wire.error(reply.status, reply.words or f"scripted {reply.status}", reply)
    headers = {"Retry-After": reply.retry_after} if reply.retry_after and wire is not google_wire else {}
    return JSONResponse(body, reply.status, headers=headers)


def last_user(request: dict[str, Any]) -> str:
    """The text of the last user message."""
    messages = [m for m in request["messages"] if m["role"] == "user"]
    return text_of(messages[-1]) if messages else ""


def text_of(message: dict[str, Any]) -> str:
    """The text of a message's content."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


def system_of(request: dict[str, Any]) -> str:
    """The instructions of a request."""
    return "\n".join(text_of(m) for m in request["messages"] if m["role"] in ("system", "developer"))


def tools_of(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The offered functions by name."""
    return {tool["function"]["name"]: tool["function"] for tool in request.get("tools") or []}


def results_of(request: dict[str, Any]) -> list[str]:
    """The tool results in a request, in order."""
    return [text_of(m) for m in request["messages"] if m["role"] == "tool"]
