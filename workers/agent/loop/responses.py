"""Reading a model's response: what it used, what it says to the log, and an output it gave as plain text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

from common.domain.output_schemas import OutputContract
from workers.agent import events
from workers.agent.loop.parts import arguments_of
from workers.agent.loop.prices import Prices
from workers.agent.loop.talk import Talk

_LONGEST_MODEL_NAME = 128


def usage_of(response: ModelResponse, asked: str, prices: Prices) -> dict[str, Any]:
    """What a turn used, as usage rows hold it. The model is the one asked for, unless a fallback answered."""
    served = response.model_name or asked
    bare = asked.partition(":")[2] or asked
    model = asked if served.startswith(bare) else served
    return {
        "model": model[:_LONGEST_MODEL_NAME],
        "input_tokens": response.usage.input_tokens,
        "output_tokens": response.usage.output_tokens,
        "cached_tokens": response.usage.cache_read_tokens,
        "cost_micros": prices.cost_micros(response, model, served, bare if model == asked else served),
    }


def events_of(response: ModelResponse, turn: int, talk: Talk) -> list[events.Event]:
    """What the response says, in its order."""
    found: list[events.Event] = []
    for part in response.parts:
        if isinstance(part, ThinkingPart) and part.content:
            found.append(events.thinking(turn, talk.agent, part.content))
        elif isinstance(part, TextPart) and part.content.strip():
            found.append(events.message(turn, talk.agent, part.content))
        elif isinstance(part, ToolCallPart):
            found += _call_events(part, turn, talk)
    return found


def _call_events(part: ToolCallPart, turn: int, talk: Talk) -> list[events.Event]:
    arguments = arguments_of(part)
    if part.tool_name in talk.transfers:
        reason = str(arguments.get("reason") or "") if isinstance(arguments, dict) else ""
        return [events.handoff(turn, talk.agent, talk.transfers[part.tool_name], reason)]
    tool = talk.toolbox.get(part.tool_name)
    if tool is None:  # the output, or a tool that does not exist
        return []
    return [events.tool_call(turn, talk.agent, part.tool_call_id, part.tool_name, arguments, tool.source)]


def as_output_call(response: ModelResponse, contract: OutputContract | None) -> ModelResponse:
    """A bound output that a model gave as JSON text counts as the call it should have made."""
    if contract is None or any(isinstance(part, ToolCallPart) for part in response.parts):
        return response
    text = "".join(part.content for part in response.parts if isinstance(part, TextPart)).strip()
    value = _json_object(text)
    if value is None:
        return response
    kept = [part for part in response.parts if not isinstance(part, TextPart)]
    return replace(response, parts=[*kept, ToolCallPart(contract.name, value)])


def _json_object(text: str) -> dict[str, Any] | None:
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    if not text.startswith("{"):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
