"""What the calls of a context give back as values of a type, in a replay as live: made from the JSON form each time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runyard import authoring, json_types
from runyard.authoring import AgentDefinition
from runyard.errors import AgentError
from runyard.json_types import DoesNotFit, Typed
from runyard_workers.agent_code import values
from runyard_workers.attempts import user_code
from runyard_workers.attempts.attempt import Attempt


def named(kind: Any, call: str, what: str = "returns") -> Typed[Any] | None:
    """A type as an author names it for a call; None where they did not. Raises `AgentError` invalid_call."""
    if kind is ... or kind is Any:
        return None
    found = json_types.typed(kind)
    if found is None:
        why = json_types.unknown(kind) or f"{kind!r} leaves open what a value is"
        raise AgentError(f"{call}, {what}: {why}.", code="invalid_call", call=call)
    return found


def schema_of(schema: Any, returns: Any, call: str) -> tuple[Any, Typed[Any] | None]:
    """The JSON Schema that an answer is checked against, and the type that it then is, from what a call was given."""
    if schema is None or isinstance(schema, Mapping | bool):
        kind = named(returns, call)
        return (kind.input_schema() if schema is None and kind is not None else schema), kind
    kind = named(schema, call, "schema")
    return (None if kind is None else kind.input_schema()), kind


def agent_of(agent: Any) -> AgentDefinition | None:
    """The agent that a decorated function is; None for a name. Raises `AgentError` invalid_call."""
    if not callable(agent):
        return None
    found = authoring.definition_of(agent)
    if found is None:
        name = getattr(agent, "__qualname__", type(agent).__qualname__)
        raise AgentError(
            f"ctx.run: {name} is no agent: decorate it with @agent, or give a name.", code="invalid_call"
        )
    return found


def bound_to(child: AgentDefinition | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a child: where its function is an older version's, that version is meant."""
    if child is None or authoring.registered().get(child.name) in (child, None):
        return options
    return {"version": child.version} | options


async def restored(attempt: Attempt, kind: Typed[Any] | None, value: Any, call: str, code: str) -> Any:
    """The value of the type whose JSON form this is. Raises `AgentError` with `code` where there is none."""
    if kind is None or kind.is_itself(value):
        return value
    # What a type is made of (validators of a model, say) is the author's code.
    restore = kind.restore if values.is_large(value) else _coroutine(kind)
    try:
        return await user_code.call(attempt, restore, value)
    except DoesNotFit as misfit:
        raise AgentError(
            f"{call}, at {misfit.path}: the value is no {kind}: {misfit.reason}.",
            code=code,
            call=call,
            path=misfit.path,
        ) from None


def _coroutine(kind: Typed[Any]) -> Any:
    async def restore(value: Any) -> Any:
        return kind.restore(value)

    return restore
