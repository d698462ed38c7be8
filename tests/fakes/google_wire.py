"""Google's generateContent protocol as the scripted model server speaks it: requests judged and read, replies written.

Source: Gemini API reference, v1beta: models.generateContent, models.streamGenerateContent, "Function calling".
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from tests.fakes.replies import Reply, paced, pieces

_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}$")
_STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


def refusal(headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, str] | None:
    """What the real service would refuse about a request: status and why."""
    if not headers.get("x-goog-api-key"):
        return 403, "Method doesn't allow unregistered callers."
    for tool in _declared(body):
        if not _NAME.match(tool["name"]):
            return 400, f"Invalid function name {tool['name']!r}."
    why = _unanswered(body.get("contents") or [])
    return (400, why) if why else None


def _unanswered(contents: list[dict[str, Any]]) -> str | None:
    if not contents or contents[0].get("role") != "user":
        return "Please ensure that the first turn is a user turn."
    waiting: list[str] = []
    for number, content in enumerate(contents):
        if content.get("role") not in ("user", "model") or not content.get("parts"):
            return f"contents[{number}]: role must be user or model, parts must not be empty."
        given = [found["name"] for part in content["parts"] if (found := _get(part, "functionResponse"))]
        if sorted(given) != sorted(waiting):
            return (
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        waiting = [found["name"] for part in content["parts"] if (found := _get(part, "functionCall"))]
    return (
        "Please ensure that function call turn is followed by a function response turn." if waiting else None
    )


def _declared(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [tool for group in body.get("tools") or [] for tool in _get(group, "functionDeclarations") or []]


def _get(given: dict[str, Any], name: str) -> Any:
    """A field under either of the names that protobuf's JSON mapping takes: lowerCamelCase or as declared."""
    return given.get(name, given.get(re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)))


def seen(body: dict[str, Any]) -> dict[str, Any]:
    """The request in the terms of chat completions, for rules and tests that read any protocol."""
    system = _get(body, "systemInstruction")
    messages = [{"role": "system", "content": _text(system["parts"])}] if system else []
    for content in body["contents"]:
        messages += _turned(content)
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool.get("description"),
                "parameters": _get(tool, "parametersJsonSchema") or tool.get("parameters"),
            },
        }
        for tool in _declared(body)
    ]
    config = _get(body, "generationConfig") or {}
    names = {"temperature": "temperature", "maxOutputTokens": "max_tokens"}
    same = {ours: found for theirs, ours in names.items() if (found := _get(config, theirs)) is not None}
    return same | {"model": body["model"], "stream": body["stream"], "messages": messages, "tools": tools}


def _turned(content: dict[str, Any]) -> Iterable[dict[str, Any]]:
    parts = content["parts"]
    for part in parts:
        if response := _get(part, "functionResponse"):
            id_ = response.get("id") or response["name"]
            yield {"role": "tool", "tool_call_id": id_, "content": json.dumps(response["response"])}
    calls = [
        {
            "id": made.get("id") or made["name"],
            "type": "function",
            "function": {"name": made["name"], "arguments": json.dumps(made.get("args") or {})},
        }
        for part in parts
        if (made := _get(part, "functionCall"))
    ]
    shown: list[dict[str, Any]] = []
    for part in parts:
        if "text" in part and not part.get("thought"):
            shown.append({"type": "text", "text": part["text"]})
        elif data := _get(part, "inlineData"):
            url = f"data:{_get(data, 'mimeType')};base64,{data['data']}"
            shown.append({"type": "image_url", "image_url": {"url": url}})
    if shown or calls:
        role = "assistant" if content["role"] == "model" else "user"
        yield {"role": role, "content": shown or None} | ({"tool_calls": calls} if calls else {})


def _text(parts: Iterable[dict[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts if "text" in part)


def error(status: int, message: str, reply: Reply | None = None) -> dict[str, Any]:
    """An error's body; how long to wait is in it, not in a header."""
    kind = (reply.kind if reply else None) or _STATUSES.get(status, "UNKNOWN")
    details: list[dict[str, Any]] = []
    if reply is not None and reply.retry_after is not None:
        details.append(
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{reply.retry_after}s"}
        )
    return {"error": {"code": status, "message": message, "status": kind, "details": details}}


def whole(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """An answer in one piece."""
    return _chunk(body, reply, list(_parts(reply)), _reason(reply))


def _chunk(
    body: dict[str, Any], reply: Reply, parts: list[dict[str, Any]], reason: str | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(body, reply),
        "modelVersion": body["model"],
        "responseId": "scripted",
    }


def _parts(reply: Reply) -> Iterable[dict[str, Any]]:
    if reply.reasoning:
        yield {"text": reply.reasoning, "thought": True}
    if reply.text:
        yield {"text": reply.text}
    for id_, name, args in reply.tool_calls:
        yield {"functionCall": {"id": id_, "name": name, "args": json.loads(args)}}


def _reason(reply: Reply) -> str:
    return reply.finish_reason or "STOP"


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    given = reply.usage or {"prompt_tokens": len(json.dumps(body["contents"])) // 4, "completion_tokens": 7}
    cached = (given.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    asked, content = given["prompt_tokens"], given["completion_tokens"]
    usage = {"promptTokenCount": asked, "candidatesTokenCount": content, "totalTokenCount": asked + content}
    return usage | ({"cachedContentTokenCount": cached} if cached else {})


def stream(body: dict[str, Any], reply: Reply) -> AsyncIterator[str]:
    """An answer as server-sent events (``alt=sse``), cut where the script has it."""
    return paced(reply, (f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in _chunks(body, reply)))


def _chunks(body: dict[str, Any], reply: Reply) -> Iterable[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in _parts(reply):
        parts += [part | {"text": piece} for piece in pieces(part["text"])] if "text" in part else [part]
    for part in parts[:-1]:
        yield _chunk(body, reply, [part], None)
    if reply.breaks:
        yield error(503, "The model is overloaded. Please try again later.")
        return
    yield _chunk(body, reply, parts[-1:] or [{"text": ""}], _reason(reply))
