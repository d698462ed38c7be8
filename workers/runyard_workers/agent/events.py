"""The events a declared agent's run logs; their shapes are documented in docs/agents.md.

The log adds the task's own `status` to each, so none of them has a field of that name.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from runyard_common.usage.queries import ModelTurn

Event = tuple[str, dict[str, Any]]
#: Longest tool result an event carries, as JSON text; the journal keeps the whole.
MOST_SHOWN: Final = 16_000


def thinking(turn: int, agent: str, text: str) -> Event:
    """The model's visible reasoning."""
    return "thinking", {"turn": turn, "agent": agent, "text": text}


def message(turn: int, agent: str, text: str, *, truncated: bool = False) -> Event:
    """Text for the user. `truncated`: the limit of tokens cut it off."""
    more = {"truncated": True} if truncated else {}
    return "message", {"turn": turn, "agent": agent, "text": text, **more}


def output_truncated(turn: int, agent: str, max_tokens: int | None) -> Event:
    """The limit of tokens cut the turn off: the agent's own `max_tokens`, or without one the model's."""
    return "output_truncated", {"turn": turn, "agent": agent, "max_tokens": max_tokens}


def tool_call(turn: int, agent: str, call_id: str, tool: str, arguments: Any, source: str) -> Event:
    """The model calls a tool."""
    return "tool_call", {
        "turn": turn,
        "agent": agent,
        "id": call_id,
        "tool": tool,
        "arguments": arguments,
        "source": source,
    }


def tool_result(turn: int, call_id: str, tool: str, outcome: str, result: Any, seconds: float) -> Event:
    """A call ended: `outcome` is ok, failed or rejected."""
    data = {"turn": turn, "id": call_id, "tool": tool, "outcome": outcome, **shown("result", result)}
    return "tool_result", data | {"seconds": round(seconds, 3)}


def handoff(turn: int, from_: str, to: str, reason: str) -> Event:
    """The conversation moves to another agent."""
    return "handoff", {"turn": turn, "from": from_, "to": to, "reason": reason}


def model_turn(turn: int, agent: str, used: ModelTurn, more: dict[str, Any]) -> Event:
    """A model turn is over: what it used and cost. The last event of the turn's response."""
    usage = {name: getattr(used, name) for name in ("input_tokens", "output_tokens", "cached_tokens")}
    return "model_turn", {
        "turn": turn,
        "agent": agent,
        "model": used.model,
        "usage": usage,
        "cost_micros": used.cost_micros,
        **more,
    }


def output_invalid(turn: int, violations: list[dict[str, str]], repair: int) -> Event:
    """The model's answer broke its schema; it is asked again."""
    return "output_invalid", {"turn": turn, "violations": violations, "repair": repair}


def final_output(name: str, content: Any, violations: list[dict[str, str]] | None = None) -> Event:
    """The structured output of the whole conversation, with what breaks its schema, if anything."""
    broken = {"violations": violations} if violations else {}
    return "final_output", {"name": name, "content": content, **broken}


def mcp_server(name: str, state: str, **more: Any) -> Event:
    """An MCP server was connected (with its `tools`) or failed (with an `error`)."""
    return "mcp_server", {"server": name, "state": state, **more}


def workflow(id_: str, state: str, **more: Any) -> Event:
    """A workflow: started or completed."""
    return "workflow", {"workflow": id_, "state": state, **more}


def workflow_step(id_: str, step: str, state: str, **more: Any) -> Event:
    """A step of a workflow: started, retrying, completed, skipped or failed."""
    return "workflow_step", {"workflow": id_, "step": step, "state": state, **more}


def attachment(name: str, state: str, **more: Any) -> Event:
    """An attached file was read, or could not be."""
    return "attachment", {"file": name, "state": state, **more}


def shown(name: str, value: Any) -> dict[str, Any]:
    """`value` under `name`, cut down to a text when it is too long to show."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(text) <= MOST_SHOWN:
        return {name: value}
    return {name: text[:MOST_SHOWN].decode(errors="ignore"), "truncated": True}
