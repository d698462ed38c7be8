"""A run's log as nara's `messages`: one assistant message, whose parts are the agent's thoughts, calls and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

Part = dict[str, Any]


def messages(log: Iterable[Mapping[str, Any]], output: Any) -> list[dict[str, Any]]:
    """The execution trace. An agent that sent no text has its output for one."""
    parts: list[Part] = []
    calls: dict[str, Part] = {}
    for event in log:
        _add(parts, calls, event["type"], event["data"] or {})
    if not any(part["type"] == "text" for part in parts):
        parts.append({"type": "text", "text": as_text(output)})
    return [{"role": "assistant", "parts": parts}]


def _add(parts: list[Part], calls: dict[str, Part], type_: str, data: Mapping[str, Any]) -> None:
    match type_:
        case "message":
            parts.append({"type": "text", "text": data.get("text", "")})
        case "thinking":
            parts.append({"type": "reasoning", "text": data.get("text", "")})
        case "tool_call":
            part = calls[str(data.get("id"))] = {
                "type": f"tool-{data.get('tool')}",
                "toolCallId": data.get("id"),
                "state": "input-available",
                "input": data.get("arguments"),
            }
            parts.append(part)
        case "tool_result" if str(data.get("id")) in calls:
            _close(calls[str(data["id"])], data)
        case "step" | "handoff" | "progress" | "custom":
            content = {name: value for name, value in data.items() if name != "status"}
            parts.append({"type": f"data-{type_}", "data": content})


def _close(part: Part, data: Mapping[str, Any]) -> None:
    if data.get("outcome", "ok") == "ok":
        part |= {"state": "output-available", "output": data.get("result")}
    else:
        part |= {"state": "output-error", "errorText": as_text(data.get("result"))}


def as_text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def truthy(output: Any) -> Any:
    """The output as a value that JavaScript holds for true: clients take a falsy one for a failure."""
    if output is None:
        return {}
    falsy = isinstance(output, str | int | float) and not output
    return {"result": output} if falsy else output
