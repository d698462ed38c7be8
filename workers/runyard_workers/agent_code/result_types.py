"""What an author names where a call takes a type or an agent; what its result is then made into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runyard import authoring, json_types
from runyard.authoring import AgentDefinition
from runyard.errors import AgentError, ChildFailed
from runyard.json_types import DoesNotFit, Typed
from runyard_workers.agent_code.values import name


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


def of_answer(kind: Typed[Any] | None, answer: Any, default: Any) -> Typed[Any] | None:
    """The type of an answer: of a default that is None, none, as it is used beside any type."""
    return None if answer is None and default is None else kind


def named_agent(agent: Any, call: str) -> tuple[str, AgentDefinition | None]:
    """The name of an agent that `call` is given by name or as its function, and the agent that the function is. Raises
    `AgentError` invalid_call."""
    if not callable(agent):
        return name(agent, call, "the agent"), None
    found = authoring.definition_of(agent)
    if found is None:
        of = getattr(agent, "__qualname__", type(agent).__qualname__)
        raise AgentError(
            f"{call}: {of} is no agent: decorate it with @agent, or give a name.",
            code="invalid_call",
            call=call,
        )
    return found.name, found


def bound_to(child: AgentDefinition | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a child: where its function is an older version's, that version is meant."""
    if child is None or authoring.registered().get(child.name) in (child, None):
        return options
    return {"version": child.version} | options


def output_of(agent: AgentDefinition | None, returns: Any, call: str) -> Typed[Any] | None:
    """The type of a child's output: what the call names, else what the agent's function returns."""
    if agent is not None and returns is ...:
        return json_types.of_result(agent.fn) or agent.output_type
    return named(returns, call)


def misfit(error: DoesNotFit, kind: Typed[Any], call: str, code: str) -> AgentError:
    """The error of a result that is no value of its type."""
    return AgentError(
        f"{call}, at {error.path}: the value is no {kind}: {error.reason}.",
        code=code,
        call=call,
        path=error.path,
    )


def restored_each(kind: Typed[Any], outputs: Sequence[Any]) -> list[Any]:
    """The values of the type whose JSON forms these are, beside the failures. Raises `DoesNotFit`."""
    found: list[Any] = []
    for output in outputs:
        try:
            found.append(output if isinstance(output, ChildFailed) else kind.restore(output))
        except DoesNotFit as error:
            raise DoesNotFit(f"$[{len(found)}]{error.path[1:]}", error.reason) from None
    return found


def are_themselves(kind: Typed[Any], outputs: Sequence[Any]) -> bool:
    """Whether each is a value of the type as it is, or a failure."""
    return all(isinstance(output, ChildFailed) or kind.is_itself(output) for output in outputs)
