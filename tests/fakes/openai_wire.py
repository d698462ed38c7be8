"""OpenAI's chat completions as the scripted model server speaks them: requests judged, replies written.

Source: OpenAI API reference, "Chat completions" and "Streaming".
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from tests.fakes.replies import Reply, pieces

_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


def refusal(headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, str] | None:
    """What the real service would refuse about a request: status and why."""
    if not headers.get("authorization", "").startswith("Bearer "):
        return 401, "You didn't provide an API key."
    why = _problem(body)
    return (400, why) if why else None


def _problem(body: dict[str, Any]) -> str | None:
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


def seen(body: dict[str, Any]) -> dict[str, Any]:
    """The request as rules and tests read it."""
    return body


def error(status: int, message: str, reply: Reply | None = None) -> dict[str, Any]:
    """An error's body."""
    type_ = "invalid_request_error" if reply is None else "error"
    return {
        "error": {"message": message, "type": type_, "param": None, "code": reply.kind if reply else None}
    }


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.usage is not None:
        return reply.usage
    asked = sum(len(json.dumps(message)) for message in body["messages"]) // 4
    tokens = len((reply.text or "").split()) + sum(len(args) // 4 + 1 for _, _, args in reply.tool_calls)
    return {"prompt_tokens": asked, "completion_tokens": tokens, "total_tokens": asked + tokens}


def _reason(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": 0, "model": body["model"]}


def whole(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
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
        deltas += [{"reasoning_content": piece} for piece in pieces(reply.reasoning)]
    if reply.text:
        deltas += [{"content": piece} for piece in pieces(reply.text)]
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


async def stream(body: dict[str, Any], reply: Reply) -> AsyncIterator[str]:
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
    if reply.breaks:
        yield f"data: {json.dumps(error(503, 'The server had an error', reply))}\n\n"
        return
    yield event([{"index": 0, "delta": {}, "finish_reason": _reason(reply)}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event([], usage=_usage(body, reply))
    yield "data: [DONE]\n\n"
