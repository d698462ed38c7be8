"""What `openai_agents(…)` refuses where it is called, and which faults only a run can find."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, get_args

from agents import (
    Agent,
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    FunctionTool,
    Handoff,
    LocalShellTool,
    ShellTool,
)

from runyard.context import Effect
from runyard.errors import AgentError

#: Tools that act on this machine, step by step, past any function that could be called once.
_UNKEPT: Final = (ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool)


def check_declaration(agent: Any, effects: Any, functions: Mapping[str, Any]) -> frozenset[str]:
    """The names of the tools that are known before a run.

    Raises `TypeError` for options of another type and for tools whose calls cannot be journaled, `ValueError` for
    an effect that cannot be meant."""
    if not isinstance(agent, Agent):
        raise TypeError(
            f"openai_agents() takes an Agent of the OpenAI Agents SDK, not {type(agent).__name__}."
        )
    for name, given in functions.items():
        if given is not None and not callable(given):
            raise TypeError(f"openai_agents(): {name} is a function, not {type(given).__name__}.")
    known: set[str] = set()
    is_open = False
    for one in _reachable(agent):
        is_open = is_open or bool(one.mcp_servers) or any(isinstance(to, Handoff) for to in one.handoffs)
        for tool in one.tools:
            if (refusal := _refusal(tool)) is not None:
                raise TypeError(refusal)
            if isinstance(tool, FunctionTool):
                known.add(tool.name)
    _check_effects(effects, None if is_open else known)
    return frozenset(known)


def _check_effects(effects: Any, known: Collection[str] | None) -> None:
    """`known` are all names of tools; None where there may be others."""
    if effects is None:
        return
    if not isinstance(effects, Mapping):
        raise TypeError(f"openai_agents(): effects is {{tool: effect}}, not {type(effects).__name__}.")
    for tool, effect in effects.items():
        if effect not in get_args(Effect):
            raise ValueError(
                f"openai_agents(): effects[{tool!r}] is {effect!r}, which is none of {', '.join(get_args(Effect))}."
            )
        if known is not None and tool not in known:
            raise ValueError(
                f"openai_agents(): effects names {tool!r}, and the agent has no such tool{_near(tool, known)}."
            )


def check_offered(doubtful: Collection[str], effects: Collection[str], offered: Collection[str]) -> None:
    """Refuse an effect of a tool that was not known before the run, whose name is like that of one which the model is
    offered, and is none: `AgentError` invalid_effects. Another may be offered in a later turn."""
    for tool in set(doubtful) - set(offered):
        if near := _near(tool, [name for name in offered if name not in effects]):
            raise AgentError(
                f"openai_agents(): effects names {tool!r}, and the agent has no such tool{near}.",
                code="invalid_effects",
                retryable=False,
            )


def refuse_tool(tool: Any) -> None:
    """Raise `AgentError` for a tool whose calls cannot be journaled."""
    if (refusal := _refusal(tool)) is not None:
        raise AgentError(refusal, code="unsupported_tool", retryable=False)


def _refusal(tool: Any) -> str | None:
    if isinstance(tool, _UNKEPT) or (isinstance(tool, ShellTool) and tool.executor is not None):
        return (
            f"openai_agents(): calls of a {type(tool).__name__} would be made again after a crash. Give the agent a "
            "function_tool that does the same."
        )
    return None


def _reachable(agent: Agent[Any]) -> Iterator[Agent[Any]]:
    """The agent and those that it hands over to, as far as they are known before a run."""
    found = {id(agent): agent}
    left = [agent]
    while left:
        one = left.pop()
        yield one
        for to in one.handoffs:
            if isinstance(to, Agent) and id(to) not in found:
                found[id(to)] = to
                left.append(to)


def _near(tool: Any, known: Collection[str]) -> str:
    found = difflib.get_close_matches(str(tool), known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
