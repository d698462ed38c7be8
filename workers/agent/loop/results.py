"""Tool results as the journal keeps them, and back: what a replayed call returns is what the first one did."""

from __future__ import annotations

from typing import Any

from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ToolReturnPart

from workers.replay import to_json


def pack(content: Any) -> dict[str, Any]:
    """A result: JSON, with images and other files in base64. Raises `AgentError` result_not_json."""
    try:
        dumped = ModelMessagesTypeAdapter.dump_python(
            [ModelRequest(parts=[ToolReturnPart("_", content, tool_call_id="_")])], mode="json"
        )
    except (ValueError, TypeError):
        return {"kind": "ok", "content": to_json(content, "tool")}
    return {"kind": "ok", "content": dumped[0]["parts"][0]["content"]}


def failed(message: str) -> dict[str, Any]:
    """A failure the agent was told of."""
    return {"kind": "failed", "content": message}


def retried(message: str) -> dict[str, Any]:
    """A failure the agent was asked to mend."""
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
