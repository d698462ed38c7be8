"""Anthropic's Messages protocol as the scripted model server speaks it: requests judged and read, replies written.

Source: Anthropic's API reference, "Messages", "Streaming messages", "Errors".
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from tests.fakes.replies import Reply, paced, pieces

_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")
_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
    503: "api_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


def refusal(headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, str] | None:
    """What the real service would refuse about a request: status and why."""
    if not headers.get("x-api-key") and not headers.get("authorization", "").startswith("Bearer "):
        return 401, "x-api-key header is required"
    if not re.match(r"20\d\d-\d\d-\d\d$", headers.get("anthropic-version", "")):
        return 400, "anthropic-version: header is required"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return 400, "max_tokens: Field required"
    if not 0 <= (body.get("temperature") or 0) <= 1:
        return 400, "temperature: Input should be less than or equal to 1"
    for tool in body.get("tools") or []:
        if not _NAME.match(tool["name"]) or tool["input_schema"].get("type") != "object":
            return 400, f"tools: {tool['name']!r} needs a valid name and an object as input_schema"
    why = _unanswered(body.get("messages") or [])
    return (400, why) if why else None


def _unanswered(messages: list[dict[str, Any]]) -> str | None:
    """Each tool_use has its tool_result in the very next message, and each result its use."""
    if not messages or messages[0]["role"] != "user":
        return 'messages: first message must use the "user" role'
    waiting: set[str] = set()
    for number, message in enumerate(messages):
        blocks = _blocks(message)
        if not blocks:
            return f"messages.{number}: all messages must have non-empty content"
        given = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if given != waiting:
            return f"messages.{number}: tool_use ids {sorted(waiting)} and tool_result ids {sorted(given)} differ"
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return f"messages.{number}: text content blocks must contain non-whitespace text"
        waiting = {block["id"] for block in blocks if block["type"] == "tool_use"}
    return f"tool_use ids were found without tool_result blocks: {sorted(waiting)}" if waiting else None


def seen(body: dict[str, Any]) -> dict[str, Any]:
    """The request in the terms of chat completions, for rules and tests that read any protocol."""
    messages = [{"role": "system", "content": _text(body["system"])}] if body.get("system") else []
    for message in body["messages"]:
        messages += _turned(message)
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool.get("description"),
                "parameters": tool["input_schema"],
            },
        }
        for tool in body.get("tools") or []
    ]
    same = {name: body[name] for name in ("model", "temperature", "max_tokens") if name in body}
    return same | {"stream": bool(body.get("stream")), "messages": messages, "tools": tools}


def _turned(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    blocks = _blocks(message)
    for block in blocks:
        if block["type"] == "tool_result":
            yield {
                "role": "tool",
                "tool_call_id": block["tool_use_id"],
                "content": _text(block.get("content")),
            }
    made = [
        {
            "id": b["id"],
            "type": "function",
            "function": {"name": b["name"], "arguments": json.dumps(b["input"])},
        }
        for b in blocks
        if b["type"] == "tool_use"
    ]
    content: list[dict[str, Any]] = []
    for block in blocks:
        if block["type"] == "text":
            content.append({"type": "text", "text": block["text"]})
        elif block["type"] == "image":
            source = block["source"]
            url = f"data:{source['media_type']};base64,{source['data']}"
            content.append({"type": "image_url", "image_url": {"url": url}})
    if content or made:
        yield {"role": message["role"], "content": content or None} | ({"tool_calls": made} if made else {})


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content or () if block["type"] == "text")


def error(status: int, message: str, reply: Reply | None = None) -> dict[str, Any]:
    """An error's body."""
    kind = (reply.kind if reply else None) or _KINDS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"}


def whole(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """An answer in one piece."""
    head = _head(body, reply)
    usage = _usage(body, reply)
    return head | {"content": list(_content(reply)), "stop_reason": _reason(reply), "usage": usage}


def _head(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    usage = _usage(body, reply) | {"output_tokens": 1}
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _content(reply: Reply) -> Iterable[dict[str, Any]]:
    if reply.reasoning:
        yield {"type": "thinking", "thinking": reply.reasoning, "signature": "c2lnbmVk"}
    if reply.text:
        yield {"type": "text", "text": reply.text}
    for id_, name, args in reply.tool_calls:
        yield {"type": "tool_use", "id": id_, "name": name, "input": json.loads(args)}


def _reason(reply: Reply) -> str:
    return reply.finish_reason or ("tool_use" if reply.tool_calls else "end_turn")


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Anthropic's input_tokens leave out those that were cached; `Reply.usage` counts as OpenAI does."""
    given = reply.usage or {"prompt_tokens": len(json.dumps(body["messages"])) // 4, "completion_tokens": 7}
    cached = (given.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "input_tokens": given["prompt_tokens"] - cached,
        "output_tokens": given["completion_tokens"],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }


def stream(body: dict[str, Any], reply: Reply) -> AsyncIterator[str]:
    """An answer as server-sent events, cut where the script has it."""
    return paced(reply, (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in _events(body, reply)))


def _events(body: dict[str, Any], reply: Reply) -> Iterable[dict[str, Any]]:
    yield {"type": "message_start", "message": _head(body, reply)}
    yield {"type": "ping"}
    for index, block in enumerate(_content(reply)):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    if reply.breaks:
        yield error(529, "Overloaded", Reply(kind="overloaded_error"))
        return
    ends = {"stop_reason": _reason(reply), "stop_sequence": None}
    yield {"type": "message_delta", "delta": ends, "usage": _usage(body, reply)}
    yield {"type": "message_stop"}


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    cleared: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {name: cleared.get(name, value) for name, value in block.items()}


def _deltas(block: dict[str, Any]) -> Iterable[dict[str, Any]]:
    match block["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": piece} for piece in pieces(block["text"]))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"]))
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use":
            args = json.dumps(block["input"])
            half = len(args) // 2
            for piece in ("", args[:half], args[half:]):
                yield {"type": "input_json_delta", "partial_json": piece}
