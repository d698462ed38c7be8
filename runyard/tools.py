"""The `tool` decorator: a function that declared agents may call by its name.

    @tool(effect="read")
    async def order_status(order_id: str) -> dict:
        "Where an order is."

A manifest then lists it: ``tools: [order_status]``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from runyard import extras
from runyard.awaited_calls import Effect

if TYPE_CHECKING:
    from pydantic import BaseModel

F = TypeVar("F", bound=Callable[..., Any])
#: A parameter of this name is not the model's: it gets a key that stays the same when a call is repeated.
KEY_PARAMETER = "idempotency_key"


@dataclass(frozen=True)
class ToolDefinition:
    """A registered tool. `fields` are the type and default of each argument; `seconds` is the longest call."""

    name: str
    description: str
    fn: Callable[..., Any]
    is_async: bool
    fields: Mapping[str, tuple[Any, Any]]
    has_key: bool
    effect: Effect
    review: bool
    seconds: float
    public: bool = False

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """What checks and converts the arguments that the model gives."""
        from pydantic import ConfigDict, create_model

        fields: dict[str, Any] = dict(self.fields)
        return create_model(f"{self.name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the arguments. Runs share it: do not change it."""
        from runyard import json_types

        schema: dict[str, Any] = json_types.within_64_bits(self.arguments.model_json_schema())
        schema.pop("title", None)
        return schema

    def bind(self, arguments: dict[str, Any], key: str) -> dict[str, Any]:
        """Keyword arguments for `fn`; pydantic's `ValidationError` when the model's do not fit."""
        model = self.arguments.model_validate(arguments)
        bound = {name: getattr(model, name) for name in type(model).model_fields}
        return bound | ({KEY_PARAMETER: key} if self.has_key else {})


_registry: dict[str, ToolDefinition] = {}


@overload
def tool(fn: F, /) -> F: ...
@overload
def tool(
    name: str | None = ...,
    *,
    description: str | None = ...,
    effect: Effect = ...,
    review: bool = ...,
    timeout: float = ...,
    public: bool = ...,
) -> Callable[[F], F]: ...
def tool(
    name: Any = None,
    *,
    description: str | None = None,
    effect: Effect = "idempotent",
    review: bool = False,
    timeout: float = 120.0,
    public: bool = False,
) -> Any:
    """Register a function (``async def``, or plain ``def``, which runs in a thread) as a tool.

    Its name, docstring and annotated parameters are what the model sees. `effect` decides what a crash in
    the middle means: ``read`` and ``idempotent`` calls are made again (with the same ``idempotency_key``, for a
    function that takes one), an ``irreversible`` one waits for an operator. `review` makes each call wait for a
    person's approval. `timeout` is seconds per call. What it raises is what the agent sees as the tool's error.

    The agents that workers publish may use what their manifests list. `public` opens the tool to the manifests and
    requests of every organisation, as the operator's RUNYARD_PUBLIC_TOOLS does.

    ``@tool`` alone is ``@tool()``.
    """
    if callable(name):
        return tool()(name)

    def register(fn: F) -> F:
        called = name or fn.__name__
        definition = ToolDefinition(
            called,
            description or inspect.getdoc(fn) or called,
            fn,
            inspect.iscoroutinefunction(fn),
            _fields(called, fn),
            KEY_PARAMETER in inspect.signature(fn).parameters,
            effect,
            review,
            timeout,
            public,
        )
        if extras.installed("pydantic"):
            _ = definition.arguments  # a type of which none can be made is refused here
        _registry[called] = definition
        return fn

    return register


def registered_tools() -> dict[str, ToolDefinition]:
    """Every tool registered in this process, by name."""
    return dict(_registry)


def _fields(name: str, fn: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    hints = typing.get_type_hints(fn, include_extras=True)
    fields: dict[str, tuple[Any, Any]] = {}
    for parameter in inspect.signature(fn).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"The tool {name!r} needs parameters with names, not {parameter}.")
        if parameter.name != KEY_PARAMETER:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return fields
