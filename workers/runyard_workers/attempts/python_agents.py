"""Run a Python agent: its function on the worker's loop, in a thread or in a child process, as it declares."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import structlog

from runyard.authoring import AgentDefinition
from runyard.errors import AgentError
from runyard.json_types import DoesNotFit
from runyard_common.schemas import checks
from runyard_common.sessions.rules import Line
from runyard_workers.agent_code import values
from runyard_workers.agent_code.arguments import arguments
from runyard_workers.agent_code.failures import of_agent
from runyard_workers.attempts import client_imports, compensation, isolated, user_code
from runyard_workers.attempts.attempt import Attempt, Ended, Suspended
from runyard_workers.attempts.blocking import ThreadContext
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.executor import Result
from runyard_workers.processes.pool import ProcessPool

logger = structlog.get_logger("runyard.python_agents")


async def run_python(
    attempt: Attempt,
    definition: AgentDefinition,
    context: RunContext,
    processes: ProcessPool | None = None,
) -> Result:
    """Call the agent and return its output in JSON form, checked against its output schema."""
    if attempt.compensations is not None:
        await compensation.await_children(attempt)
    opening = () if attempt.was_suspended else _opening(attempt.task.input or {})
    try:
        value = await _called(attempt, definition, context, processes)
        output = await attempt.measured(values.output, value, definition.name)
    except Suspended as left:
        left.ended = replace(left.ended, lines=(*opening, *_questions(attempt, left.ended)))
        raise
    except Exception as error:
        raise of_agent(error) from error
    if definition.output_schema is not None:
        _check_output(definition, output)
    has_message = (attempt.task.input or {}).get("message") is not None
    answer = Line("assistant", "agent_response", output)
    return Result(output, (*opening, answer) if has_message else ())


async def _called(
    attempt: Attempt, definition: AgentDefinition, context: RunContext, processes: ProcessPool | None
) -> Any:
    """What the function returns or raises; what it prints and logs is its run's.

    If it caught the suspension of its run, the run is suspended all the same: a bare `except:` around a question, or
    `gather(…, return_exceptions=True)`, must not answer it."""
    output = attempt.output
    token = None if output is None else output.attach()
    try:
        if definition.runs_in == "process" and processes is not None:
            value = await isolated.in_process(attempt, definition, context, processes)
        elif definition.runs_in != "loop" and definition.is_async:
            value = await isolated.in_thread(attempt, definition, context)
        else:
            value = await _called_here(attempt, definition, context)
    except Exception as error:
        if context.suspension is None:
            raise
        raise _caught(attempt, context.suspension) from error
    finally:
        if output is not None and token is not None:
            output.end(token)
    if context.suspension is not None:
        raise _caught(attempt, context.suspension)
    return value


async def _called_here(attempt: Attempt, definition: AgentDefinition, context: RunContext) -> Any:
    if definition.is_async:
        await client_imports.imported(definition)
    args = await _arguments_of(attempt, definition)
    given = context if definition.is_async else ThreadContext(context, asyncio.get_running_loop())
    return await user_code.call(attempt, definition.fn, given, args)


def _caught(attempt: Attempt, suspension: Suspended) -> Suspended:
    logger.warning(
        "The agent's code caught the suspension of its run; catch Exception, not BaseException",
        action="suspend",
        task=attempt.task.id,
        agent=attempt.task.agent_name,
    )
    return suspension


async def _arguments_of(attempt: Attempt, definition: AgentDefinition) -> Any:
    given = attempt.task.input or {}
    if definition.args_type is None:
        return arguments(definition, given)
    # What the arguments are made of (validators of a model, say) is the author's code too.
    return await user_code.call(attempt, _coroutine(arguments), definition, given)


def _coroutine(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any) -> Any:
        return fn(*args)

    return call


#: What the schema of a type refuses, and the type may take: a date without a zone, more than is looked through at once.
_NOT_OF_TYPES: Final = frozenset({"format", "propertyNames", "anyOf", "too_large"})


def _check_output(definition: AgentDefinition, output: Any) -> None:
    found = checks.violations(output, definition.output_schema or {}, field="output")
    kind = definition.output_type
    if found and kind is not None and {violation.code for violation in found} <= _NOT_OF_TYPES:
        try:
            kind.restore(output)
            return
        except DoesNotFit:
            pass
    if found:
        raise AgentError(
            f"The agent's output breaks its schema: {found[0].field}: {found[0].message}",
            code="invalid_output",
            field=found[0].field,
        )


def _opening(given: dict[str, Any]) -> tuple[Line, ...]:
    """The user's message, for the conversation; a run by arguments only is none."""
    message = given.get("message")
    return () if message is None else (Line("user", "user_message", message),)


def _questions(attempt: Attempt, ended: Ended) -> tuple[Line, ...]:
    if (attempt.task.input or {}).get("message") is None:
        return ()
    return tuple(
        Line("assistant", "question", asked.payload["text"])
        for asked in ended.asked
        if asked.kind == "question"
    )
