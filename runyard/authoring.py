"""The `agent` decorator: a function becomes something Runyard can publish and run."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, PydanticUserError, TypeAdapter

from runyard import declaring
from runyard.declaring import Isolation, Place

F = TypeVar("F", bound=Callable[..., Any])
#: A JSON Schema, or a type (pydantic model, dataclass, TypedDict …) that has one.
Input = Mapping[str, Any] | type | None


@dataclass(frozen=True)
class AgentDefinition:
    """A Python agent as registered: its function and its manifest."""

    name: str
    version: str
    fn: Callable[..., Any]
    is_async: bool
    description: str
    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    args_type: TypeAdapter[Any] | None = None
    dict_args: bool = False  # its arguments are annotated as a dict
    max_concurrent: int | None = None
    timeout: float | None = None
    retries: Mapping[str, Mapping[str, float]] | None = None
    isolation: Isolation | None = None  # as declared; see `runs_in`
    memory_mb: int | None = None
    cpu_seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = None

    @property
    def runs_in(self) -> Isolation:
        """Where its code runs: on the worker's event loop, in a thread, or in a child process."""
        return self.isolation or ("loop" if self.is_async else "thread")

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest that is published for this agent."""
        document: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "kind": "python",
            "description": self.description,
            "max_concurrent": self.max_concurrent,
            "timeout": self.timeout,
            "isolation": self.isolation,
            "memory_mb": self.memory_mb,
            "cpu_seconds": self.cpu_seconds,
            **self.options,
        }
        if self.retries is not None:
            document["retries"] = {cause: dict(rule) for cause, rule in self.retries.items()}
        if self.input_schema is not None:
            document["input"] = {"schema": self.input_schema}
        if self.output_schema is not None:
            document["output"] = {"schema": self.output_schema}
        return {key: value for key, value in document.items() if value is not None}


_registry: dict[str, AgentDefinition] = {}


def agent(
    name: str,
    *,
    version: str = "1.0.0",
    input: Input = None,
    output: Input = None,
    max_concurrent: int | None = None,
    timeout: float | None = None,
    retries: Mapping[str, Mapping[str, float]] | int | None = None,
    isolation: Isolation | None = None,
    memory_mb: int | None = None,
    cpu_seconds: float | None = None,
    description: str | None = None,
    functional: bool = True,
) -> Callable[[F], F]:
    """Register a function ``(ctx, args)`` as the agent `name` (``@scope/name``; without a scope, ``@default``).

    `input` and `output` are JSON Schemas or types; arguments are checked before a run is accepted. Without
    `input` the annotation of the second parameter is used when it is a model, dataclass or TypedDict.
    `timeout` is seconds per attempt. `retries` is a number of extra attempts after an agent error, or budgets
    by cause class ``{"agent": {"budget": 3, "base_s": 2, "cap_s": 60}, …}``.

    `isolation` is where the function runs: ``loop`` (the worker's event loop, as an ``async def`` does by default),
    ``thread`` (as a plain ``def`` does; an ``async def`` with a loop of its own), or ``process``, a child process that
    may use `memory_mb` MiB of memory and `cpu_seconds` of processor time for each attempt.

    Raises `TypeError` or `ValueError` for a function, a version or an option that no run could use, and for a
    second agent of the same name; the same declaration may be imported again.
    """
    full = declaring.check_name(name)
    declaring.check_options(
        full, version, timeout, max_concurrent, retries, {"input": input, "output": output}
    )

    def register(fn: F) -> F:
        declaring.check_function(full, fn)
        declaring.check_isolation(full, isolation, _is_async(fn), memory_mb, cpu_seconds)
        place = Place.of(fn, 1)
        known = _registry.get(full)
        if known is not None and known.place is not None and not place.replaces(known.place):
            raise ValueError(f"Two agents are named {full}: {known.place} and {place}. Rename one.")
        given = (
            getattr(fn, "input_schema", None) if input is None else input
        )  # an adapted agent knows its own
        result = getattr(fn, "output_schema", None) if output is None else output
        kind = _args_kind(fn) if given is None else given
        adapter = _adapter(kind)
        schema = dict(given) if isinstance(given, Mapping) else _schema(adapter)
        _registry[full] = AgentDefinition(
            name=full,
            version=version,
            fn=fn,
            is_async=_is_async(fn),
            description=description or (inspect.getdoc(fn) or "").split("\n\n")[0],
            input_schema=schema,
            output_schema=dict(result) if isinstance(result, Mapping) else _schema(_adapter(result)),
            args_type=adapter,
            dict_args=dict in (kind, typing.get_origin(kind)),
            max_concurrent=max_concurrent,
            timeout=timeout,
            retries={"agent": {"budget": retries, "base_s": 2.0, "cap_s": 300.0}}
            if isinstance(retries, int)
            else retries,
            isolation=isolation,
            memory_mb=memory_mb,
            cpu_seconds=cpu_seconds,
            options={} if functional else {"functional": False},
            place=place,
        )
        return fn

    return register


def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def registered() -> dict[str, AgentDefinition]:
    """Every agent registered in this process, by full name."""
    return dict(_registry)


def restore(definitions: Mapping[str, AgentDefinition]) -> None:
    """Register exactly these again: an import that failed leaves none of its agents behind."""
    _registry.clear()
    _registry.update(definitions)


def _args_kind(fn: Callable[..., Any]) -> Any:
    """What the second parameter is annotated with; None where nothing is known."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return None
    if len(parameters) < 2 or parameters[1].annotation is inspect.Parameter.empty:
        return None
    try:
        return typing.get_type_hints(_function(fn)).get(parameters[1].name)
    except (NameError, TypeError):  # another annotation may be of a name that only type checkers import
        return _evaluated(fn, parameters[1])


def _function(fn: Any) -> Any:
    """The function behind a decorated one, a partial, or an object that can be called."""
    inner = inspect.unwrap(fn)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    return inner if inspect.isroutine(inner) else type(inner).__call__


def _evaluated(fn: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        one = types.SimpleNamespace(__annotations__={"args": parameter.annotation})
        return typing.get_type_hints(one, getattr(_function(fn), "__globals__", {}))["args"]
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise TypeError(
            f"{getattr(fn, '__qualname__', fn)}: the type of its arguments, {parameter.annotation!r}, is not known "
            f"where it is declared ({error}). Import it there, or give `input`."
        ) from None


def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    structured = isinstance(kind, type) and (
        issubclass(kind, BaseModel) or hasattr(kind, "__dataclass_fields__") or typing.is_typeddict(kind)
    )
    if not structured:
        return None
    try:
        return TypeAdapter(kind)
    except PydanticUserError:
        return None


def _schema(adapter: TypeAdapter[Any] | None) -> dict[str, Any] | None:
    return adapter.json_schema() if adapter is not None else None
