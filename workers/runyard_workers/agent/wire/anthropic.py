"""Anthropic's messages as compatible servers send them, in the shape that Anthropic documents.

Source: Anthropic API reference, "Messages", "Streaming messages".
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

from runyard_workers.agent.wire import counts
from runyard_workers.agent.wire.text import parse

_COUNTS: Final = ("input_tokens", "output_tokens")
#: The blocks of answers to requests that name no tools of the provider's own.
_TEXTS: Final = {"text": "text", "thinking": "thinking", "redacted_thinking": "data"}


def has_answer(value: dict[str, Any]) -> bool:
    """Whether there is an answer in it, possibly an empty one."""
    return isinstance(value.get("content"), list | str) or value.get("stop_reason") is not None


def whole(value: dict[str, Any]) -> dict[str, Any]:
    """A message; `has_answer` holds for it."""
    content = value.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    found = (_block(one) for one in (blocks if isinstance(blocks, list) else ()))
    return _head(value) | {"content": [one for one in found if one is not None]}


def event(value: dict[str, Any]) -> dict[str, Any]:
    """An event of a stream."""
    match value.get("type"):
        case "message_start":
            given = value.get("message")
            return value | {"message": _head(given if isinstance(given, dict) else {}) | {"content": []}}
        case "message_delta":
            delta = value.get("delta")
            used = counts.usage(value.get("usage"), ("output_tokens",)) or {"output_tokens": 0}
            return value | {"delta": delta if isinstance(delta, dict) else {}, "usage": used}
        case "content_block_start":
            block = value.get("content_block")
            if isinstance(block, dict) and block.get("type") == "tool_use":
                return value | {"content_block": _call(block)}
        case "content_block_delta":
            delta = value.get("delta")
            if isinstance(delta, dict):
                return value | {"delta": {name: "" if one is None else one for name, one in delta.items()}}
    return value


def _head(value: dict[str, Any]) -> dict[str, Any]:
    texts = {name: value[name] if isinstance(value.get(name), str) else "" for name in ("id", "model")}
    reason, sequence = value.get("stop_reason"), value.get("stop_sequence")
    kept = {
        name: one for name, one in value.items() if name not in ("error", "container", "context_management")
    }
    return (
        kept
        | texts
        | {
            "type": "message",
            "role": "assistant",
            "stop_reason": reason if isinstance(reason, str) else None,
            "stop_sequence": sequence if isinstance(sequence, str) else None,
            "usage": counts.usage(value.get("usage"), _COUNTS) or dict.fromkeys(_COUNTS, 0),
        }
    )


def _block(one: Any) -> dict[str, Any] | None:
    """A block that the library knows; None for others."""
    if not isinstance(one, dict):
        return None
    kind = one.get("type")
    if kind == "tool_use":
        return _call(one)
    name = _TEXTS.get(str(kind))
    if name is None:
        return None
    text = one.get(name)
    block = {"type": kind, name: text if isinstance(text, str) else "" if text is None else json.dumps(text)}
    if kind == "thinking":
        block["signature"] = one["signature"] if isinstance(one.get("signature"), str) else ""
    return block


def _call(block: dict[str, Any]) -> dict[str, Any]:
    name, id_, given = block.get("name"), block.get("id"), block.get("input")
    if isinstance(given, str):
        try:
            given = parse(given.encode()) if given.strip() else {}
        except ValueError:
            given = {"input": given}
    return {
        "type": "tool_use",
        "id": id_ if isinstance(id_, str) and id_ else f"toolu_{uuid.uuid4().hex[:16]}",
        "name": name if isinstance(name, str) and name else "unnamed",
        "input": given if isinstance(given, dict) else {} if given is None else {"input": given},
    }
