"""Runyard for agent authors and callers: write agents as functions, run them as durable tasks.

from runyard import agent, Context

@agent("invoice_check", version="1.2.0")
async def invoice_check(ctx: Context, args: dict) -> dict:
    total = await ctx.step("total", add_up, args["lines"])
    return {"total": total}

with Client(api_key_file=".runyard/admin.key") as client:
    print(client.run("invoice_check", {"lines": []}).result())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runyard.authoring import AgentDefinition, Input, agent, registered
from runyard.context import BlockingContext, Context, File, SessionInfo, TaskInfo
from runyard.errors import (
    AbnormalExit,
    AgentError,
    Cancelled,
    ChildFailed,
    EventTimeout,
    JournalMismatch,
    ProviderError,
    Rejected,
    RetryLater,
    StepFailed,
)
from runyard.steps import StepInfo, current_step
from runyard.tools import tool
from runyard.turns import ModelTurn, ToolCall, ToolResult

if TYPE_CHECKING:
    __version__: str

    from runyard.async_client import AsyncClient
    from runyard.client import Client
    from runyard.client_results import (
        ClientError,
        Event,
        NotFinished,
        Question,
        Refused,
        Run,
        RunFailed,
        Unreachable,
    )

_RESULTS = ("ClientError", "Event", "NotFinished", "Question", "Refused", "Run", "RunFailed", "Unreachable")
#: What callers use: imported when asked for, so that an agent's import brings no HTTP library.
_LAZY = {
    "Client": "runyard.client",
    "AsyncClient": "runyard.async_client",
    **dict.fromkeys(_RESULTS, "runyard.client_results"),
}

__all__ = [
    "AbnormalExit",
    "AgentDefinition",
    "AgentError",
    "AsyncClient",
    "BlockingContext",
    "Cancelled",
    "ChildFailed",
    "Client",
    "ClientError",
    "Context",
    "Event",
    "EventTimeout",
    "File",
    "Input",
    "JournalMismatch",
    "ModelTurn",
    "NotFinished",
    "ProviderError",
    "Question",
    "Refused",
    "Rejected",
    "RetryLater",
    "Run",
    "RunFailed",
    "SessionInfo",
    "StepFailed",
    "StepInfo",
    "TaskInfo",
    "ToolCall",
    "ToolResult",
    "Unreachable",
    "agent",
    "current_step",
    "registered",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("runyard")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
