"""Tools for a model that cannot call any: the choice becomes a JSON Schema, the answer a tool call again.

llama.cpp lets a model talk before its call, and a 135M model never gets to the call. So a request with tools
asks for one JSON object, {"tool": …, "arguments": …} or {"reply": …}, which the grammar enforces.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from runyard_launch.localmodel.completion import Message, Schema
from runyard_launch.localmodel.schemas import bounded

TEXT: Schema = {"type": "string", "maxLength": 300}


@dataclass(frozen=True)
class Tool:
    """A function the model may call; `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: Schema


@dataclass(frozen=True)
class Reply:
    """What the model chose: `text`, or a call of `tool` with `arguments` (JSON text)."""

    text: str | None = None
    tool: str | None = None
    arguments: str = "{}"


def offered(tools: list[Tool], choice: Any, messages: list[dict[str, Any]]) -> list[Tool]:
    """The tools still on offer in this turn.

    Each tool is called once a turn: a tiny model repeats itself until the caller's limit. Where the caller
    demands a call (`required`), all are on offer again once each was called.
    """
    if choice == "none":
        return []
    if isinstance(choice, dict):
        name = choice.get("function", {}).get("name")
        return [tool for tool in tools if tool.name == name]
    called = _called_this_turn(messages)
    fresh = [tool for tool in tools if tool.name not in called]
    return fresh or ([] if choice == "auto" else tools)


def choice_schema(tools: list[Tool], reply: Schema | None) -> Schema:
    """The schema of one answer: a call of one of `tools`, or a `reply` of that schema if one is allowed."""
    answers = [
        _object({"tool": {"const": tool.name}, "arguments": bounded(tool.parameters)}) for tool in tools
    ]
    answers += [_object({"reply": bounded(reply)})] if reply else []
    whole: Schema = {"anyOf": answers} if len(answers) > 1 else answers[0]
    # References point at the root, so the definitions of every part move there.
    for part in [*(tool.parameters for tool in tools), *([reply] if reply else [])]:
        for key in ("$defs", "definitions"):
            if key in part:
                whole[key] = {**whole.get(key, {}), **bounded(part)[key]}
    return whole


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def instruction(tools: list[Tool]) -> str:
    """The part of the system message about the tools."""
    lines = [
        f"{tool.name}: {tool.description} arguments: {json.dumps(tool.parameters.get('properties', {}))}"
        for tool in tools
    ]
    return "Answer with one JSON object. Tools:\n" + "\n".join(lines)


def reply_of(answer: str) -> Reply:
    """Reads an answer to `choice_schema`; one that was cut off stays text."""
    try:
        chosen = json.loads(answer)
    except ValueError:
        return Reply(text=answer)
    if "tool" in chosen:
        return Reply(tool=chosen["tool"], arguments=json.dumps(chosen.get("arguments", {})))
    reply = chosen.get("reply", answer)
    return Reply(text=reply if isinstance(reply, str) else json.dumps(reply))


def flattened(messages: list[dict[str, Any]]) -> list[Message]:
    """The conversation as plain text: system parts first, calls as their JSON, results as user text."""
    system = [text_of(message) for message in messages if message["role"] in ("system", "developer")]
    flat: list[Message] = [{"role": "system", "content": "\n".join(system)}] if system else []
    for message in messages:
        match message["role"]:
            case "system" | "developer":
                continue
            case "tool":
                flat.append({"role": "user", "content": f"Result of the tool: {text_of(message)}"})
            case "assistant":
                flat += [{"role": "assistant", "content": text} for text in _answers(message)]
            case _:
                flat.append({"role": "user", "content": text_of(message)})
    return flat


def text_of(message: dict[str, Any]) -> str:
    """The text of a message's content; what is not text is named, since this model reads only text."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part for part in content or [] if isinstance(part, dict)]
    return "".join(part.get("text") or f"[{part.get('type', 'part')} left out]" for part in parts)


def _answers(message: dict[str, Any]) -> list[str]:
    calls = [call["function"] for call in message.get("tool_calls") or []]
    asked = [
        f'{{"tool": {json.dumps(call["name"])}, "arguments": {call["arguments"] or "{}"}}}' for call in calls
    ]
    return [*([text] if (text := text_of(message)) else []), *asked]


def _called_this_turn(messages: list[dict[str, Any]]) -> set[str]:
    turn: set[str] = set()
    for message in messages:
        if message["role"] == "user":
            turn.clear()
        turn |= {call["function"]["name"] for call in message.get("tool_calls") or []}
    return turn
