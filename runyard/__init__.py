"""Runyard for agent authors and callers: write agents as functions, run them as durable tasks.

from runyard import agent, Context

@agent("invoice_check", version="1.2.0")
async def invoice_check(ctx: Context, args: dict) -> dict:
    total = await ctx.step("total", add_up, args["lines"])
    return {"total": total}
"""

from runyard.authoring import AgentDefinition, Input, agent, registered
from runyard.context import BlockingContext, Context, File, SessionInfo, TaskInfo
from runyard.errors import (
    AgentError,
    Cancelled,
    ChildFailed,
    JournalMismatch,
    ProviderError,
    Rejected,
    RetryLater,
    StepFailed,
)

__all__ = [
    "AgentDefinition",
    "AgentError",
    "BlockingContext",
    "Cancelled",
    "ChildFailed",
    "Context",
    "File",
    "Input",
    "JournalMismatch",
    "ProviderError",
    "Rejected",
    "RetryLater",
    "SessionInfo",
    "StepFailed",
    "TaskInfo",
    "agent",
    "registered",
]
