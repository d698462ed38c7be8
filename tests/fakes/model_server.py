"""A scripted model behind the OpenAI chat completions protocol, as strict with its callers as the real one.

with ModelServer() as server:
    server.answer(calls(lookup={"order": "A1"}), say("It is on its way."))
    server.when("refund", say("No."))          # requests whose last user message has this text
    ... server.url ... server.requests ...
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


@dataclass(frozen=True)
class Reply:
    """One scripted answer. Times are seconds; `cut_after` ends a stream after so many pieces."""

    text: str | None = None
    tool_calls: tuple[tuple[str, str, str], ...] = ()  # id, name, arguments as JSON text
    reasoning: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    status: int = 200
    error: dict[str, Any] | None = None
    retry_after: str | None = None
    delay: float = 0.0
    piece_delay: float = 0.0
    cut_after: int | None = None
    cut_quietly: bool = False
    usage: dict[str, Any] | None = None
    hold: threading.Event | None = None  # answers only once this is set


def say(text: str, **options: Any) -> Reply:
    """A plain answer."""
    return Reply(text=text, **options)


def calls(*made: tuple[str, dict[str, Any]], text: str | None = None, **named: dict[str, Any]) -> Reply:
    """Tool calls, in parallel: `calls(lookup={"a": 1})`, or pairs where one tool is called twice."""
    pairs = [*made, *named.items()]
    return Reply(
        text=text,
        tool_calls=tuple((f"call_{uuid.uuid4().hex[:12]}", name, json.dumps(args)) for name, args in pairs),
    )


def fail(status: int, retry_after: float | None = None, code: str | None = None) -> Reply:
    """An error answer."""
    after = None if retry_after is None else str(retry_after)
    body = {"message": f"scripted {status}", "type": "error", "param": None, "code": code}
    return Reply(status=status, error=body, retry_after=after)


@dataclass
class _Rule:
    matches: Callable[[dict[str, Any]], bool]
    replies: deque[Reply]
    forever: bool = False


@dataclass
class ModelServer:
    """Use as a context manager; `url` is the base URL. Requests nobody scripted get a 500 that says so."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    respond: Callable[[dict[str, Any]], Reply | None] | None = None
    _rules: list[_Rule] = field(default_factory=list)
    _queue: deque[Reply] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        config = uvicorn.Config(self.application(), port=0, log_level="critical", ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="model-server", daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    def answer(self, *replies: Reply) -> None:
        """Answer the next requests with these, in order."""
        with self._lock:
            self._queue.extend(replies)

    def when(
        self, text: str | Callable[[dict[str, Any]], bool], *replies: Reply, forever: bool = False
    ) -> None:
        """Answer requests whose last user message has `text` (or that the function accepts) with these instead."""
        matches = text if callable(text) else (lambda request: str(text) in last_user(request))
        with self._lock:
            self._rules.append(_Rule(matches, deque(replies), forever))

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/v1/chat/completions", self._create, methods=["POST"])])

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

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        with self._lock:
            self.requests.append(body)
            self.headers.append(dict(request.headers))
            self.arrivals.append(time.monotonic())
        fault = problem_of(body)
        if fault is not None:
            return JSONResponse({"error": {"message": fault, "type": "invalid_request_error"}}, 400)
        reply = self._next(body)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.hold is not None:
            await asyncio.to_thread(reply.hold.wait, 30)
        if reply.error is not None:
            headers = {"Retry-After": reply.retry_after} if reply.retry_after is not None else {}
            return JSONResponse({"error": reply.error}, reply.status, headers=headers)
        if body.get("stream"):
            return StreamingResponse(_stream(body, reply), media_type="text/event-stream")
        return JSONResponse(_whole(body, reply))


def last_user(request: dict[str, Any]) -> str:
    """The text of the last user message."""
    said = [m for m in request["messages"] if m["role"] == "user"]
    return text_of(said[-1]) if said else ""


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


def problem_of(body: dict[str, Any]) -> str | None:
    """What the real service would refuse about a request."""
    if not isinstance(body.get("model"), str) or not body.get("messages"):
        return "you must provide a model and messages"
    names = [tool["function"]["name"] for tool in body.get("tools") or []]
    bad = [name for name in names if not _NAME.match(name)]
    if bad or len(set(names)) != len(names):
        return f"invalid or duplicate function names: {bad or names}"
    return _unanswered(body["messages"])


def _unanswered(messages: Iterable[dict[str, Any]]) -> str | None:
    """Every call must be answered by a tool message straight after it, and every answer must have a call."""
    waiting: set[str] = set()
    for number, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                return f"messages[{number}]: a tool message must follow a call with its tool_call_id"
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            return f"messages[{number}]: calls without an answer: {sorted(waiting)}"
        if message["role"] == "assistant":
            if not message.get("tool_calls") and message.get("content") is None:
                return f"messages[{number}]: an assistant message needs content or tool_calls"
            waiting = {call["id"] for call in message.get("tool_calls") or []}
    return f"calls without an answer: {sorted(waiting)}" if waiting else None


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.usage is not None:
        return reply.usage
    asked = sum(len(json.dumps(message)) for message in body["messages"]) // 4
    said = len((reply.text or "").split()) + sum(len(args) // 4 + 1 for _, _, args in reply.tool_calls)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _reason(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": 0, "model": body["model"]}


def _whole(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": args}}
            for id_, name, args in reply.tool_calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": _reason(reply), "logprobs": None}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage(body, reply)}


def _deltas(reply: Reply) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if reply.reasoning:
        deltas += [{"reasoning_content": piece} for piece in re.findall(r"\s*\S+", reply.reasoning)]
    if reply.text:
        deltas += [{"content": piece} for piece in re.findall(r"\s*\S+\s*$|\s*\S+", reply.text)]
    if reply.refusal:
        deltas.append({"refusal": reply.refusal})
    for index, (id_, name, args) in enumerate(reply.tool_calls):
        function = {"name": name, "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": id_, "type": "function", "function": function}]})
        half = len(args) // 2
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in (args[:half], args[half:])
        ]
    return deltas


async def _stream(body: dict[str, Any], reply: Reply) -> AsyncIterator[str]:
    head = _head(body, "chat.completion.chunk")

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"

    for number, delta in enumerate(_deltas(reply)):
        if reply.cut_after is not None and number >= reply.cut_after:
            if reply.cut_quietly:
                return
            raise ConnectionResetError("scripted cut")
        if reply.piece_delay:
            await asyncio.sleep(reply.piece_delay)
        yield event([{"index": 0, "delta": delta, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "finish_reason": _reason(reply)}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event([], usage=_usage(body, reply))
    yield "data: [DONE]\n\n"
