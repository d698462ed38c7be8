"""OpenAI's chat completions as compatible servers send them, in the shape that OpenAI documents.

Source: OpenAI API reference, "The chat completion object", "The chat completion chunk object".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any, Final

from runyard_workers.agent.wire import counts
from runyard_workers.agent.wire.text import clean_json

_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_TEXTS: Final = ("content", "refusal", "reasoning_content", "reasoning")
_LATEST: Final = 2**33  # seconds since 1970: beyond, a year of five digits


def has_answer(value: dict[str, Any]) -> bool:
    """Whether there is an answer in it, possibly an empty one."""
    choices = value.get("choices")
    return isinstance(choices, list) and any(isinstance(one, dict) for one in choices)


def whole(value: dict[str, Any]) -> dict[str, Any]:
    """A completion; `has_answer` holds for it."""
    choices = [_choice(one, index) for index, one in enumerate(value["choices"]) if isinstance(one, dict)]
    head = _head(value, "chat.completion")
    return head | {"choices": choices} | _usage(value)


def chunk(value: dict[str, Any]) -> dict[str, Any]:
    """A piece of a streamed completion; one with nothing but the usage has no choices."""
    given = value.get("choices")
    choices = []
    for one in given if isinstance(given, list) else ():
        if isinstance(one, dict):
            delta = _message(_object(one.get("delta")), streamed=True)
            reason = one.get("finish_reason")
            choices.append(
                {
                    "index": counts.count(one.get("index")) or 0,
                    "delta": delta,
                    "finish_reason": reason if isinstance(reason, str) and reason else None,
                }
            )
    return _head(value, "chat.completion.chunk") | {"choices": choices} | _usage(value)


def as_chunk(value: dict[str, Any]) -> dict[str, Any]:
    """A whole completion as the one piece of a stream, for servers that cannot stream."""
    completion = whole(value)
    choices = []
    for choice in completion["choices"]:
        delta = dict(choice["message"])
        calls = delta.get("tool_calls") or []
        if calls:
            delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
        choices.append(
            {"index": choice["index"], "delta": delta, "finish_reason": choice["finish_reason"] or "stop"}
        )
    return completion | {"object": "chat.completion.chunk", "choices": choices}


def has_output(value: dict[str, Any]) -> bool:
    """Whether there is an answer of the Responses API in it, possibly an empty or a failed one."""
    return isinstance(value.get("output"), list)


def responded(value: dict[str, Any]) -> dict[str, Any]:
    """An answer of the Responses API; `has_output` holds for it."""
    used = counts.usage(value.get("usage"), ("input_tokens", "output_tokens", "total_tokens"))
    kept = {name: one for name, one in value.items() if name != "usage"}
    return kept | {"output": [_item(one) for one in value["output"] if isinstance(one, dict)], "usage": used}


def response_event(value: dict[str, Any]) -> dict[str, Any]:
    """An event of a stream of the Responses API."""
    response, item = value.get("response"), value.get("item")
    more: dict[str, Any] = {}
    if isinstance(response, dict) and has_output(response):
        more["response"] = responded(response)
    if isinstance(item, dict):
        more["item"] = _item(item)
    return value | more


def _item(one: dict[str, Any]) -> dict[str, Any]:
    if one.get("type") == "function_call":
        arguments = one.get("arguments")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
        return one | {"arguments": text}
    if isinstance(one.get("content"), list):
        parts = [part for part in one["content"] if isinstance(part, dict)]
        return one | {
            "content": [part | {"text": part["text"] or ""} if "text" in part else part for part in parts]
        }
    return one


def _head(value: dict[str, Any], kind: str) -> dict[str, Any]:
    kept = {
        name: one
        for name, one in value.items()
        if name not in ("choices", "usage", "error", "system_fingerprint", "moderation", "metadata")
    }
    texts = {name: value[name] if isinstance(value.get(name), str) else "" for name in ("id", "model")}
    created = value.get("created")
    if not isinstance(created, int) or not 0 <= created < _LATEST:
        created = 0
    if not isinstance(kept.get("service_tier"), str):
        kept.pop("service_tier", None)
    return kept | texts | {"object": kind, "created": created}


def _usage(value: dict[str, Any]) -> dict[str, Any]:
    found = counts.usage(value.get("usage"), _COUNTS)
    return {} if found is None else {"usage": found}


def _choice(one: dict[str, Any], index: int) -> dict[str, Any]:
    reason = one.get("finish_reason")
    return {
        "index": index,
        "message": {"role": "assistant", **_message(_object(one.get("message")), streamed=False)},
        "finish_reason": reason if isinstance(reason, str) and reason else None,
    }


def _message(given: dict[str, Any], *, streamed: bool) -> dict[str, Any]:
    dropped = {"role", "tool_calls", "function_call", "audio", "annotations", *_TEXTS}
    message = {name: one for name, one in given.items() if name not in dropped}
    for name in _TEXTS:
        if name in given:
            message[name] = _text(given[name], parts=name == "content")
    if not streamed:
        message.setdefault("content", None)
    calls = [*_calls(given.get("tool_calls"), streamed)]
    if isinstance(given.get("function_call"), dict):  # the older name, with at most one call
        calls += _calls([{"index": 0, "function": given["function_call"]}], streamed)
    if calls:
        message["tool_calls"] = calls
    return message


def _text(value: Any, *, parts: bool) -> Any:
    if value is None or isinstance(value, str) or (parts and isinstance(value, list)):
        return value
    return json.dumps(value, ensure_ascii=False)


def _calls(given: Any, streamed: bool) -> Iterable[dict[str, Any]]:
    listed = [given] if isinstance(given, dict) else given if isinstance(given, list) else []
    for index, one in enumerate(listed):
        if not isinstance(one, dict):
            continue
        function = _object(one.get("function")) or {
            name: one[name] for name in ("name", "arguments") if name in one
        }
        yield _streamed_call(one, function, index) if streamed else _call(one, function)


def _call(one: dict[str, Any], function: dict[str, Any]) -> dict[str, Any]:
    name = function.get("name")
    made = {"name": name if isinstance(name, str) else "unnamed", "arguments": _arguments(function)}
    return {"id": _id(one), "type": "function", "function": made} | _extra(one)


def _streamed_call(one: dict[str, Any], function: dict[str, Any], index: int) -> dict[str, Any]:
    """A piece of a call: the first has an id and a name, the others some of the arguments."""
    number = counts.count(one.get("index"))
    piece: dict[str, Any] = {}
    if isinstance(function.get("name"), str):
        piece["name"] = function["name"]
    arguments = function.get("arguments")
    if arguments is not None:
        piece["arguments"] = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call: dict[str, Any] = {
        "index": index if number is None else number,
        "type": "function",
        "function": piece,
    }
    if isinstance(one.get("id"), str) and one["id"]:
        call["id"] = one["id"]
    return call | _extra(one)


def _arguments(function: dict[str, Any]) -> str:
    arguments = function.get("arguments")
    if arguments is None or arguments == "":
        return "{}"
    return clean_json(arguments) if isinstance(arguments, str) else json.dumps(arguments)


def _id(one: dict[str, Any]) -> str:
    given = one.get("id")
    return given if isinstance(given, str) and given else f"call_{uuid.uuid4().hex[:16]}"


def _extra(one: dict[str, Any]) -> dict[str, Any]:
    """Google's compatible endpoint wants its thought signatures back, which are here."""
    return {"extra_content": one["extra_content"]} if isinstance(one.get("extra_content"), dict) else {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
