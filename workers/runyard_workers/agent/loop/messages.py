"""The library's messages: earlier lines as a history, a run's messages as lines to keep, and the parts of calls."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from runyard_common.sessions.rules import Line
from runyard_common.values import json_text

#: How much of a long conversation the model is given, in characters of its newest lines.
MOST_HISTORY: Final = 200_000
_LONGEST_ID: Final = 80


def from_lines(lines: Sequence[Mapping[str, Any]]) -> list[ModelMessage]:
    """Lines {role, type, content} as a history: user and agent texts, and tool calls with their results."""
    recent = _recent(lines)
    results = {
        line["content"].get("id"): line["content"].get("content")
        for line in recent
        if line["type"] == "agent_tool_response" and isinstance(line["content"], dict)
    }
    messages: list[ModelMessage] = []
    for line in recent:
        content = line["content"]
        if line["type"] == "user_message":
            messages.append(ModelRequest(parts=[UserPromptPart(_text(content))]))
        elif line["type"] in ("agent_response", "question"):
            messages.append(ModelResponse(parts=[TextPart(_text(content))]))
        elif line["type"] == "agent_tool_use" and isinstance(content, dict) and content.get("id") in results:
            messages += _exchange(content, results[content["id"]])
    return messages


def _exchange(call: Mapping[str, Any], result: Any) -> list[ModelMessage]:
    made = ToolCallPart(str(call["tool"]), call.get("input") or {}, tool_call_id=str(call["id"]))
    given = ToolReturnPart(str(call["tool"]), result, tool_call_id=str(call["id"]))
    return [ModelResponse(parts=[made]), ModelRequest(parts=[given])]


def _recent(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The newest lines, from a message of the user on."""
    left, kept = MOST_HISTORY, []
    for line in reversed(lines):
        left -= len(_text(line["content"]))
        if left < 0:
            break
        kept.append(line)
    kept.reverse()
    if len(kept) < len(lines):
        first = next((i for i, line in enumerate(kept) if line["type"] == "user_message"), len(kept))
        kept = kept[first:]
    return kept


def _text(content: Any) -> str:
    return content if isinstance(content, str) else orjson.dumps(content, default=str).decode()


def to_lines(messages: Iterable[ModelMessage], silent: Collection[str] = ()) -> list[Line]:
    """The lines of a run's messages, without those of users, which are written as they arrive.

    Calls of the tools named in `silent` (the bound output, questions to the user) have lines of other types.
    """
    found = (_line(part, silent) for message in messages for part in message.parts)
    return [line for line in found if line is not None]


def _line(part: Any, silent: Collection[str]) -> Line | None:
    match part:
        case ThinkingPart(content=text) if text:
            return Line("assistant", "agent_thinking", text)
        case TextPart(content=text) if text.strip():
            return Line("assistant", "agent_response", text)
        case ToolCallPart() if part.tool_name not in silent:
            content = {"id": part.tool_call_id, "tool": part.tool_name, "input": arguments_of(part)}
            return Line("assistant", "agent_tool_use", content)
        case ToolReturnPart() if part.tool_name not in silent:
            result = part.model_response_object()
            if set(result) == {"return_value"}:
                result = result["return_value"]
            content = {"id": part.tool_call_id, "tool": part.tool_name, "content": result}
            return Line("tool", "agent_tool_response", content)
        case RetryPromptPart(tool_name=str(tool)) if tool not in silent:
            content = {"id": part.tool_call_id, "tool": tool, "content": refusal_of(part)}
            return Line("tool", "agent_tool_response", content)
    return None


def arguments_of(part: ToolCallPart) -> Any:
    """A call's arguments; as the text they are where they are no JSON."""
    if not isinstance(part.args, str):
        return part.args or {}
    try:
        return json_text.parsed(part.args or "{}")
    except orjson.JSONDecodeError:
        return part.args


def with_unique_call_ids(response: ModelResponse) -> ModelResponse:
    """Calls are known by their ids: servers that repeat one within a turn, or make them long, get new ones."""
    seen: set[str] = set()
    for part in response.parts:
        if not isinstance(part, ToolCallPart):
            continue
        wanted = part.tool_call_id[:_LONGEST_ID] or "call"
        unique, number = wanted, 2
        while unique in seen:
            unique, number = f"{wanted}~{number}", number + 1
        seen.add(unique)
        if unique != part.tool_call_id:
            part.tool_call_id = unique
    return response


def refusals(messages: Sequence[ModelMessage]) -> dict[str, str]:
    """What the model was last given for its calls, by their ids, as text."""
    last = messages[-1] if messages else None
    if not isinstance(last, ModelRequest):
        return {}
    return {
        part.tool_call_id: refusal_of(part)
        if isinstance(part, RetryPromptPart)
        else part.model_response_str()
        for part in last.parts
        if isinstance(part, RetryPromptPart | ToolReturnPart)
    }


def refusal_of(part: RetryPromptPart) -> str:
    """Why a call was refused, without the library's request to try again."""
    return part.content if isinstance(part.content, str) else part.model_response()
