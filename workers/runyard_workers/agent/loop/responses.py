"""Reading a model's response: what it used, the events it makes, and an output it gave as plain text. Pure.

Models that are asked for an object often put words around it: it comes bare, in a fence, or within sentences. An object
is found only where there is no doubt which one is meant: of several, the one that fits the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from pydantic_ai.messages import ModelResponse, TextPart, ThinkingPart, ToolCallPart

from runyard_common.schemas.outputs import OutputContract
from runyard_common.usage.queries import ModelTurn
from runyard_workers.agent import events
from runyard_workers.agent.loop.messages import arguments_of
from runyard_workers.agent.loop.models import Prices
from runyard_workers.agent.loop.session import ModelSession
from runyard_workers.agent.wire.text import clean, clean_json, cleaned

_LONGEST_MODEL_NAME = 128
#: The source of a tool that the model made up.
UNKNOWN: Final = "unknown"

_FENCE: Final = re.compile(r"```[^\S\n]*[\w+-]*[^\S\n]*\n(.*?)```", re.DOTALL)
_INVISIBLE: Final = "\ufeff\u200b\u200c\u200d\u2060"
#: Places in a text where JSON may begin that are tried, and the longest text that is searched, in characters.
_MOST_PLACES: Final = 200
_LONGEST: Final = 2_000_000
_DECODER: Final = json.JSONDecoder()
_OPENING: Final = re.compile(r"[{\[]")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


def usage_of(response: ModelResponse, asked: str, prices: Prices) -> ModelTurn:
    """What a turn used. The model is the one asked for, unless a fallback answered."""
    served = response.model_name or asked
    bare = asked.partition(":")[2] or asked
    model = asked if served.startswith(bare) else served
    return ModelTurn(
        model[:_LONGEST_MODEL_NAME],
        response.usage.input_tokens,
        response.usage.output_tokens,
        response.usage.cache_read_tokens,
        prices.cost_micros(response, model, served, bare if model == asked else served),
    )


def events_of(response: ModelResponse, turn: int, session: ModelSession) -> list[events.Event]:
    """The events of the response, in its order."""
    found: list[events.Event] = []
    calls = tool_calls_of(response, session)
    last = response.parts[-1] if response.parts and response.finish_reason == "length" else None
    for part in response.parts:
        if isinstance(part, ThinkingPart) and part.content:
            found.append(events.thinking(turn, session.agent.name, part.content))
        elif isinstance(part, TextPart) and part.content.strip():
            found.append(events.message(turn, session.agent.name, part.content, truncated=part is last))
        elif isinstance(part, ToolCallPart):
            found += _call_events(part, turn, session, any(part is call for call in calls))
    if response.finish_reason == "length":
        found.append(events.output_truncated(turn, session.agent.name, session.agent.max_tokens))
    return found


def _call_events(
    part: ToolCallPart, turn: int, session: ModelSession, is_tool_call: bool
) -> list[events.Event]:
    arguments = arguments_of(part)
    if not is_tool_call:
        if part.tool_name not in session.transfers:
            return []
        to, reason = session.transfers[part.tool_name], str(arguments.get("reason") or "")
        return [events.handoff(turn, session.agent.name, to, reason)]
    tool = session.toolbox.get(part.tool_name)
    source = UNKNOWN if tool is None else tool.source
    return [events.tool_call(turn, session.agent.name, part.tool_call_id, part.tool_name, arguments, source)]


def tool_calls_of(response: ModelResponse, session: ModelSession) -> list[ToolCallPart]:
    """The calls of tools, be it of some that do not exist: neither the output nor the hand-off. Of several hand-offs
    the first is one; the others, and those with arguments that will be refused, hand nothing over and end as calls
    do."""
    calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
    handed = next((part for part in calls if _hands_over(part, session)), None)
    output = session.contract.name if session.contract is not None else None
    return [part for part in calls if part is not handed and part.tool_name != output]


def _hands_over(part: ToolCallPart, session: ModelSession) -> bool:
    arguments = arguments_of(part)
    if part.tool_name not in session.transfers or not isinstance(arguments, dict):
        return False
    return arguments.keys() <= {"reason"} and isinstance(arguments.get("reason", ""), str)


def as_output_call(response: ModelResponse, contract: OutputContract | None) -> ModelResponse:
    """A bound output that a model gave as JSON text counts as the call it should have made."""
    if contract is None:
        return response
    calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
    if calls:
        return replace(response, parts=[_with_object(part, contract) for part in response.parts])
    text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
    value = find_output(text, contract)
    if value is None:
        return response
    kept = [part for part in response.parts if not isinstance(part, TextPart)]
    return replace(response, parts=[*kept, ToolCallPart(contract.name, value)])


def _with_object(part: Any, contract: OutputContract) -> Any:
    """A call of the output whose arguments are the object with something around it."""
    if not isinstance(part, ToolCallPart) or part.tool_name != contract.name:
        return part
    if isinstance(arguments_of(part), dict):
        return part
    value = find_output(part.args if isinstance(part.args, str) else "", contract)
    return part if value is None else replace(part, args=value)


def stored(response: ModelResponse) -> ModelResponse:
    """The response with text that every store accepts, and without text that is blank throughout."""
    parts = [_clean(part) for part in response.parts]
    if not any(isinstance(part, TextPart) and part.content.strip() for part in parts):
        parts = [part for part in parts if not isinstance(part, TextPart)]
    return replace(response, parts=parts)


def _clean(part: Any) -> Any:
    if isinstance(part, TextPart | ThinkingPart):
        content = clean(part.content)
        return part if content == part.content else replace(part, content=content)
    if isinstance(part, ToolCallPart):
        args = clean_json(part.args) if isinstance(part.args, str) else cleaned(part.args or {})
        name, id_ = clean(part.tool_name), clean(part.tool_call_id)
        return replace(part, tool_name=name, args=args, tool_call_id=id_)
    return part


def is_blank(response: ModelResponse) -> bool:
    """Whether the model neither wrote nor called anything."""
    return not any(isinstance(part, TextPart | ToolCallPart) for part in response.parts)


def cut_off(response: ModelResponse, contract: OutputContract | None) -> bool:
    """Whether the limit of tokens left the response without the object or the arguments it was to have."""
    if response.finish_reason != "length" or not response.parts:
        return False
    calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
    if calls:
        return not isinstance(arguments_of(calls[-1]), dict)
    return contract is not None or is_blank(response)


def find_output(text: str, contract: OutputContract) -> dict[str, Any] | None:
    """The object that the text gives as the output of `contract`, or None where there is none, or doubt.

    An object that is the whole text, or the only one in it, counts even if it breaks the schema: its violations
    show best what is to be corrected.
    """
    text = text.strip().strip(_INVISIBLE).strip()
    if not text or len(text) > _LONGEST:
        return None
    unfit: list[dict[str, Any]] = []
    for values in (_whole(text), _fenced(text), _within(text)):
        objects = _distinct(one for value in values if (one := _object(value, contract)) is not None)
        fitting = [one for one in objects if not contract.violations(one)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            return None
        unfit = unfit or objects
    return unfit[0] if len(unfit) == 1 else None


def _whole(text: str) -> Iterator[Any]:
    yield from _parsed(text)


def _fenced(text: str) -> Iterator[Any]:
    for found in _FENCE.finditer(text):
        yield from _parsed(found[1].strip())


def _within(text: str) -> Iterator[Any]:
    """Every value that begins with a brace or a bracket and is part of no other, not even of a broken one."""
    at = 0
    for _ in range(_MOST_PLACES):
        place = _OPENING.search(text, at)
        if place is None:
            return
        try:
            value, at = _DECODER.raw_decode(text, place.start())
        except (ValueError, RecursionError):
            at = _end(text, place.start())
            continue
        yield cleaned(value)


def _end(text: str, start: int) -> int:
    """Behind the bracket that closes the one at `start`; the end of the text where none does."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in ("{", "["):
            depth += 1
        elif token[0] in ("}", "]"):
            depth -= 1
            if depth == 0:
                return token.end()
    return len(text)


def _parsed(text: str) -> Iterator[Any]:
    try:
        yield cleaned(json.loads(text))
    except (ValueError, RecursionError):
        return


def _object(value: Any, contract: OutputContract) -> dict[str, Any] | None:
    """The value as the contract's object: unpacked from a list of one, or put under the name it has there."""
    for one in (value, value[0] if isinstance(value, list) and len(value) == 1 else None):
        if isinstance(one, dict) and (not contract.wrapped or not contract.violations(one)):
            return one
    if contract.wrapped:
        (name,) = contract.schema["required"]
        wrapped = {name: value}
        return None if contract.violations(wrapped) else wrapped
    return None


def _distinct(objects: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in objects:
        if one not in found:
            found.append(one)
    return found
