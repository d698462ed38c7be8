"""Tool results as the journal keeps them, and back: what a replayed call returns is what the first one did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import (
    MULTI_MODAL_CONTENT_TYPES,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ToolReturnPart,
)

from runyard_workers.agent.tools.calls import describe
from runyard_workers.attempts.replay import to_json

#: Longest result of a tool that an agent gets, in characters of its text or JSON.
MOST_CHARACTERS: Final = 500_000


class NoJsonForm(Exception):
    """A tool's result cannot be written; the message is for the agent."""


def pack(content: Any, tool: str) -> dict[str, Any]:
    """A result: JSON, with images and other files in base64, and a long one cut. Raises `NoJsonForm`."""
    try:
        return {"kind": "ok", "content": _bounded(_json(content, tool))}
    except BaseException as error:  # an object of the author's own may raise anything on its way
        words = describe(error).partition("has no JSON form: ")[2] or describe(error)
        raise NoJsonForm(f"The result of the tool {tool!r} has no JSON form: {words}") from error


def _json(content: Any, tool: str) -> Any:
    if not any(isinstance(one, MULTI_MODAL_CONTENT_TYPES) for one in _members(content)):
        return to_json(content, tool)
    dumped = ModelMessagesTypeAdapter.dump_python(
        [ModelRequest(parts=[ToolReturnPart("_", content, tool_call_id="_")])], mode="json"
    )
    found = dumped[0]["parts"][0]["content"]
    orjson.dumps(found)
    return found


def _members(content: Any) -> Sequence[Any]:
    return content if isinstance(content, list | tuple) else (content,)


def _bounded(content: Any) -> Any:
    """The content, or the beginning of it as text: a model's window is short, and the journal keeps every result."""
    if isinstance(content, str) and len(content) <= MOST_CHARACTERS:
        return content
    text = content if isinstance(content, str) else orjson.dumps(_without_data(content)).decode()
    if len(text) <= MOST_CHARACTERS:
        return content
    return f"{text[:MOST_CHARACTERS]}\n[Cut off: the first {MOST_CHARACTERS:,} of {len(text):,} characters.]"


def _without_data(content: Any) -> Any:
    """The content as far as it counts as text: images and files have limits of their own."""
    found = [
        one | {"data": ""} if isinstance(one, dict) and one.get("kind") == "binary" else one
        for one in _members(content)
    ]
    return found if isinstance(content, list) else found[0]


def failed(message: str) -> dict[str, Any]:
    """A failure that was reported to the agent."""
    return {"kind": "failed", "content": message}


def retried(message: str) -> dict[str, Any]:
    """A failure that the agent was asked to correct."""
    return {"kind": "retry", "content": message}


def unpack(value: Any) -> Any:
    """What the call returns, or raises to the library. A value that was not packed is an operator's own result."""
    if not isinstance(value, dict) or value.get("kind") not in ("ok", "failed", "retry"):
        return value
    if value["kind"] == "failed":
        raise ToolFailed(value["content"])
    if value["kind"] == "retry":
        raise ModelRetry(value["content"])
    part = {"part_kind": "tool-return", "tool_name": "_", "tool_call_id": "_", "content": value["content"]}
    returned = ModelMessagesTypeAdapter.validate_python([{"kind": "request", "parts": [part]}])[0].parts[0]
    assert isinstance(returned, ToolReturnPart)
    return returned.content
