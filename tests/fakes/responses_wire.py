"""OpenAI's responses as the scripted model server speaks them: requests judged, replies written.

Source: OpenAI API reference, "Responses" and "Streaming events".
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from tests.fakes import openai_wire
from tests.fakes.replies import Reply, pieces

error = openai_wire.error
_TEXTS = ("input_text", "output_text", "text")


def refusal(headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, str] | None:
    """What the real service would refuse about a request: status and why."""
    if not body.get("input"):
        return 400, "you must provide an input"
    tools = [tool for tool in body.get("tools") or [] if tool["type"] == "function"]
    loose = [tool["name"] for tool in tools if tool.get("strict") and not _is_strict(tool["parameters"])]
    if loose:
        return 400, f"not strict: {loose}"
    return openai_wire.refusal(headers, seen(body))


def _is_strict(schema: dict[str, Any]) -> bool:
    return schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(
        schema.get("properties", ())
    )


def seen(body: dict[str, Any]) -> dict[str, Any]:
    """The request in the terms of chat completions."""
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        match item.get("type", "message"):
            case "message":
                messages.append({"role": item["role"], "content": _text(item["content"])})
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                messages[-1].setdefault("tool_calls", []).append(call)
            case "function_call_output":
                text = item["output"] if isinstance(item["output"], str) else _text(item["output"])
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})
    found = {"model": body.get("model"), "messages": messages, "stream": bool(body.get("stream"))}
    tools = [tool for tool in body.get("tools") or [] if tool["type"] == "function"]
    return found | ({"tools": [{"type": "function", "function": tool} for tool in tools]} if tools else {})


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] in _TEXTS)


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.usage is not None:
        return reply.usage
    asked = len(json.dumps(body["input"])) // 4
    tokens = len((reply.text or "").split()) + sum(len(args) // 4 + 1 for _, _, args in reply.tool_calls)
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + tokens,
    }


def _items(reply: Reply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.reasoning:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        items.append({"id": f"rs_{uuid.uuid4().hex}", "type": "reasoning", "summary": summary})
    if reply.text is not None or reply.refusal is not None:
        text: dict[str, Any] = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        refused = {"type": "refusal", "refusal": reply.refusal}
        part = refused if reply.text is None else text
        message = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
        items.append({"id": f"msg_{uuid.uuid4().hex}", **message})
    for id_, name, args in reply.tool_calls:
        call = {
            "type": "function_call",
            "call_id": id_,
            "name": name,
            "arguments": args,
            "status": "completed",
        }
        items.append({"id": f"fc_{uuid.uuid4().hex}", **call})
    return items


def _head(body: dict[str, Any], status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": 0,
        "model": body["model"],
        "status": status,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "error": None,
        "incomplete_details": None,
    }


def whole(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    return _head(body, "completed") | {"output": _items(reply), "usage": _usage(body, reply)}


def _events(body: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    head, items = _head(body, "in_progress"), _items(reply)
    yield {"type": "response.created", "response": head}
    for index, item in enumerate(items):
        where = {"output_index": index, "item_id": item["id"]}
        yield {"type": "response.output_item.added", "output_index": index, "item": _empty(item)}
        if item["type"] == "message" and item["content"][0]["type"] == "output_text":
            part, at = item["content"][0], where | {"content_index": 0}
            yield {"type": "response.content_part.added", **at, "part": part | {"text": ""}}
            for piece in pieces(part["text"]):
                yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
            yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}
        elif item["type"] == "function_call":
            half = len(item["arguments"]) // 2
            for piece in (item["arguments"][:half], item["arguments"][half:]):
                yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield {"type": "response.function_call_arguments.done", **where, **done}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    if reply.breaks:
        failure = {"code": reply.kind or "server_error", "message": "The server had an error"}
        yield {"type": "response.failed", "response": head | {"status": "failed", "error": failure}}
        return
    if reply.finish_reason == "length":
        cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": items}
        yield {"type": "response.incomplete", "response": head | cut | {"usage": _usage(body, reply)}}
        return
    ended = {"status": "completed", "output": items, "usage": _usage(body, reply)}
    yield {"type": "response.completed", "response": head | ended}


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it begins."""
    if item["type"] == "function_call":
        return item | {"arguments": "", "status": "in_progress"}
    return item | ({"content": [], "status": "in_progress"} if item["type"] == "message" else {"summary": []})


async def stream(body: dict[str, Any], reply: Reply) -> AsyncIterator[str]:
    for number, event in enumerate(_events(body, reply)):
        if reply.cut_after is not None and number >= reply.cut_after:
            if reply.cut_quietly:
                return
            raise ConnectionResetError("scripted cut")
        if reply.piece_delay:
            await asyncio.sleep(reply.piece_delay)
        yield f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n"
