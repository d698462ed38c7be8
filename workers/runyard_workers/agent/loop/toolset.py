"""The run's toolbox as the library's toolset: arguments are checked, failures reported to the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.exceptions import CallDeferred, ModelRetry, ToolFailed
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from runyard_common.schemas import checks
from runyard_workers.agent.loop.session import ModelSession
from runyard_workers.agent.tools import Call, ToolFailure, Waits
from runyard_workers.agent.tools.calls import describe
from runyard_workers.agent.wire.text import clean

#: Times a model may be asked to correct its arguments, per tool.
MOST_CORRECTED = 5
_ANY_OBJECT = SchemaValidator(core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()))


class RunToolset(AbstractToolset[Any]):
    """Serves a session's tools."""

    def __init__(self, session: ModelSession) -> None:
        self._session = session

    @property
    def id(self) -> str:
        """The library wants one."""
        return "runyard"

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Every tool of the toolbox."""
        return {
            tool.name: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=tool.name, description=tool.description, parameters_json_schema=tool.parameters
                ),
                max_retries=MOST_CORRECTED,
                args_validator=_ANY_OBJECT,
                args_validator_func=_checker(tool.parameters),
            )
            for tool in self._session.toolbox
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Call; the arguments were checked."""
        called = self._session.toolbox.get(name)
        assert called is not None
        call_id = ctx.tool_call_id or "call"
        transcript = self._session.transcript
        call = Call(call_id, transcript.tool_key(call_id), transcript.turn, tool_args)
        limit = asyncio.timeout(called.seconds)
        try:
            async with limit:
                return await called.run(call)
        except ToolFailure as failure:
            raise ToolFailed(clean(str(failure))) from failure
        except Waits as waits:
            self._session.wait(waits)
            raise CallDeferred(kind="question" if waits.asked else "external") from None
        except TimeoutError as error:
            if limit.expired():
                raise ToolFailed(f"The tool did not answer within {called.seconds:g} s.") from None
            raise ToolFailed(f"The tool {name!r} failed: {describe(error)}") from error


def _checker(schema: dict[str, Any]) -> Callable[..., None]:
    # Before a person reviews a call, and before it goes on record: wrong arguments are the model's to correct.
    return lambda ctx, **arguments: _check(arguments, schema)


def _check(arguments: dict[str, Any], schema: dict[str, Any]) -> None:
    try:
        found = checks.violations(arguments, schema, field="arguments", most=5)
    except Exception:  # noqa: BLE001 - a server's schema that cannot be used: the server checks for itself
        return
    if found:
        raise ModelRetry("Wrong arguments. " + " ".join(f"{v.field}: {v.message}" for v in found))
