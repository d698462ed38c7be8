"""Tool calls as the library holds them: their arguments as JSON, their ids unique, their refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    ToolCallPart,
    ToolReturnPart,
)

_LONGEST_ID: Final = 80


def arguments_of(part: ToolCallPart) -> Any:
    """A call's arguments; as the text they are where they are no JSON."""
    if not isinstance(part.args, str):
        return part.args or {}
    try:
        return orjson.loads(part.args or "{}")
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
