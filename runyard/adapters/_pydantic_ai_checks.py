"""What `pydantic_ai(…)` refuses where it is called, and which faults only a run can find."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic_ai.agent import AbstractAgent
from pydantic_ai.toolsets import FunctionToolset

from runyard.context import Effect
from runyard.errors import AgentError


def check_declaration(agent: Any, deps: Any, deps_factory: Any, effects: Any) -> None:
    """Raises `TypeError` for options of another type, `ValueError` for an effect that cannot be meant."""
    if not isinstance(agent, AbstractAgent):
        raise TypeError(f"pydantic_ai() takes an Agent of pydantic-ai, not {type(agent).__name__}.")
    if deps_factory is not None and not callable(deps_factory):
        raise TypeError(
            f"pydantic_ai(): deps_factory is a function of (ctx, args), not {type(deps_factory).__name__}."
        )
    if deps is not None and deps_factory is not None:
        raise TypeError("pydantic_ai(): give deps or deps_factory, not both.")
    if effects is None:
        return
    if not isinstance(effects, Mapping):
        raise TypeError(f"pydantic_ai(): effects is {{tool: effect}}, not {type(effects).__name__}.")
    for tool, effect in effects.items():
        if effect not in get_args(Effect):
            raise ValueError(
                f"pydantic_ai(): effects[{tool!r}] is {effect!r}, which is none of {', '.join(get_args(Effect))}."
            )
    known = _function_tools(agent)
    for tool in effects if known is not None else ():
        if known is not None and tool not in known:
            raise ValueError(
                f"pydantic_ai(): effects names {tool!r}, and the agent has no such tool{_near(tool, known)}. Adapt it "
                "where all its tools are declared."
            )


def check_offered(effects: Mapping[str, Effect], offered: Collection[str]) -> None:
    """Refuse an effect whose name is like that of a tool which the model is offered, and is none: a toolset's names
    are known at a run. Another may be offered in a later turn. Raises `AgentError` invalid_effects."""
    for tool in effects.keys() - offered:
        others = [name for name in offered if name not in effects]
        if near := _near(tool, others):
            raise AgentError(
                f"pydantic_ai(): effects names {tool!r}, and the agent has no such tool{near}.",
                code="invalid_effects",
                retryable=False,
            )


def _function_tools(agent: AbstractAgent[Any, Any]) -> set[str] | None:
    """The names of its tools; None where a toolset has others, or a capability may."""
    if any(capability.get_toolset() is not None for capability in _capabilities(agent)):
        return None
    names: set[str] = set()
    for toolset in agent.toolsets:
        if not isinstance(toolset, FunctionToolset):
            return None
        names |= toolset.tools.keys()
    return names


def _capabilities(agent: AbstractAgent[Any, Any]) -> list[Any]:
    return [agent.root_capability]


def _near(tool: Any, known: Collection[str]) -> str:
    found = difflib.get_close_matches(str(tool), known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
