"""Tools written in Python with `runyard.tool`, called from declared agents."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import ValidationError

from runyard.errors import AgentError
from runyard.tools import ToolDefinition
from workers.agent.tools.base import Call, Tool, ToolFailure
from workers.attempt import Attempt


def python_tool(attempt: Attempt, definition: ToolDefinition) -> Tool:
    """The registered tool as this attempt calls it."""

    async def run(call: Call) -> Any:
        try:
            bound = definition.bind(call.arguments, f"{attempt.task.id}/{call.key}")
        except ValidationError as error:
            raise ToolFailure(f"Wrong arguments: {error.errors()[0]['msg']}") from None
        try:
            if definition.is_async:
                return await definition.fn(**bound)
            return await attempt.run_blocking(partial(definition.fn, **bound))
        except (ToolFailure, TimeoutError):
            raise
        except AgentError as error:
            if error.retryable and error.code != AgentError.code:
                raise  # an outside service's passing failure: the attempt is tried again
            raise ToolFailure(error.message) from error
        except Exception as error:  # an author's tool fails as it likes; its agent is told
            raise ToolFailure(f"{type(error).__name__}: {error}") from error

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
