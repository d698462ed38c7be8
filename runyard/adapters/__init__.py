"""Agents and clients of other libraries, unmodified: their model turns and tool calls are journaled by Runyard.

    from runyard import agent
    from runyard.adapters import pydantic_ai

    agent("support")(pydantic_ai(support_agent))

A library is imported when its adapter is asked for, and must be installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runyard.extras import MissingExtra, of_another

if TYPE_CHECKING:
    from runyard.adapters._celery import CeleryTaskAgent, celery_task
    from runyard.adapters._langgraph import LangGraphAgent, langgraph
    from runyard.adapters._openai_agents import OpenAIAgents, openai_agents
    from runyard.adapters._pydantic_ai import PydanticAI, pydantic_ai

#: Each name with the module that has it.
_LAZY = {
    **dict.fromkeys(("CeleryTaskAgent", "celery_task"), "runyard.adapters._celery"),
    **dict.fromkeys(("LangGraphAgent", "langgraph"), "runyard.adapters._langgraph"),
    **dict.fromkeys(("OpenAIAgents", "openai_agents"), "runyard.adapters._openai_agents"),
    **dict.fromkeys(("PydanticAI", "pydantic_ai"), "runyard.adapters._pydantic_ai"),
}

_EXTRAS = {
    "runyard.adapters._celery": "celery",
    "runyard.adapters._langgraph": "langgraph",
    "runyard.adapters._openai_agents": "openai-agents",
    "runyard.adapters._pydantic_ai": "pydantic-ai",
}

__all__ = [
    "CeleryTaskAgent",
    "LangGraphAgent",
    "OpenAIAgents",
    "PydanticAI",
    "celery_task",
    "langgraph",
    "openai_agents",
    "pydantic_ai",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as missing:
        if not of_another(missing):
            raise
        raise MissingExtra(f"{name}()", _EXTRAS[_LAZY[name]]) from missing
