"""Tools written in Python with `runyard.tool`, called from declared agents."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from runyard.errors import AgentError
from runyard.tools import ToolDefinition
from runyard_workers.agent.tools import calls
from runyard_workers.agent.tools.calls import Raised
from runyard_workers.agent.tools.toolbox import Call, Tool, ToolFailure
from runyard_workers.agent.wire.text import clean
from runyard_workers.attempts.attempt import Attempt


def python_tool(attempt: Attempt, definition: ToolDefinition) -> Tool:
    """The registered tool as this attempt calls it."""

    async def run(call: Call) -> Any:
        bound = calls.in_thread(definition.bind, {"arguments": call.arguments, "key": _key(attempt, call)})
        if isinstance(bound, Raised):
            raise ToolFailure(_refusal(definition.name, bound.error)) from bound.error
        if definition.is_async:
            result = await calls.in_task(definition.fn, bound)
        else:
            result = await attempt.run_blocking(calls.in_thread, definition.fn, bound)
        if not isinstance(result, Raised):
            return result
        error = result.error
        if isinstance(error, AgentError) and error.retryable and error.code != AgentError.code:
            raise error  # an outside service's passing failure: the attempt is tried again
        raise ToolFailure(f"The tool {definition.name!r} failed: {_words(error)}") from error

    return Tool(
        definition.name,
        definition.description,
        definition.parameters,
        run,
        definition.effect,
        definition.review,
        "python",
        definition.seconds,
    )


def _key(attempt: Attempt, call: Call) -> str:
    return f"{attempt.task.id}/{call.key}"


def _refusal(name: str, error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"Wrong arguments of {name!r}: {where}: {clean(first['msg'])}"
    return f"The arguments of {name!r} cannot be used: {calls.describe(error)}"


def _words(error: BaseException) -> str:
    """An author's own `AgentError` and `ToolFailure` have nothing but words for the agent."""
    if isinstance(error, AgentError | ToolFailure):
        return calls.describe(error).partition(": ")[2] or calls.describe(error)
    return calls.describe(error)
