"""The `agent` decorator: a function becomes something Runyard can publish and run."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from runyard import declaring, extras
from runyard.adapters._named_clients import named_clients
from runyard.agent_types import Decorator, OutputDecorator
from runyard.declaring import Isolation, Place

if TYPE_CHECKING:
    from runyard.json_types import Typed

T = TypeVar("T")
#: A JSON Schema, or a type (pydantic model, dataclass, TypedDict, a list or union of some …) that has one.
Input = Mapping[str, Any] | type | types.UnionType | None


Retries = Mapping[str, Mapping[str, float]] | int | None
#: Semver ranges of versions, one or several: ``"1.x"``, ``["^1.4", "2.0.0"]``.
Ranges = str | Sequence[str]


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
    args_type: Typed[Any] | None = None
    output_type: Typed[Any] | None = None
    dict_args: bool = False  # its arguments are annotated as a dict
    annotated: frozenset[str] = (
        frozenset()
    )  # which of input and output have their schema from its annotations
    max_concurrent: int | None = None
    timeout: float | None = None
    retries: Mapping[str, Mapping[str, float]] | None = None
    isolation: Isolation | None = None  # as declared; see `runs_in`
    memory_mb: int | None = None
    cpu_seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = None
    resumes: tuple[str, ...] = ()  # semver ranges of versions whose runs this code carries on
    drops: tuple[str, ...] = ()  # of versions whose runs that are left fail

    @property
    def versioned(self) -> str:
        """Its name and version: ``@scope/name@1.2.0``."""
        return f"{self.name}@{self.version}"

    @property
    def runs_in(self) -> Isolation:
        """Where its code runs: on the worker's event loop, in a thread, or in a child process."""
        return self.isolation or ("loop" if self.is_async else "thread")

    @cached_property
    def clients(self) -> tuple[str, ...]:
        """The providers whose `ctx.client` its code names, as far as its module shows."""
        return named_clients(self.fn)

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


_registry: dict[str, AgentDefinition] = {}  # by name and version
#: Whether this is an agent's process, which is importing the agent's module.
_imported_for_process = False


@overload
def agent(
    name: str,
    *,
    version: str = ...,
    input: Input = ...,
    output: type[T],
    max_concurrent: int | None = ...,
    timeout: float | None = ...,
    retries: Retries = ...,
    isolation: Isolation | None = ...,
    memory_mb: int | None = ...,
    cpu_seconds: float | None = ...,
    description: str | None = ...,
    functional: bool = ...,
    resumes: Ranges = ...,
    drops: Ranges = ...,
) -> OutputDecorator[T]: ...
@overload
def agent(
    name: str,
    *,
    version: str = ...,
    input: Input = ...,
    output: Mapping[str, Any] | types.UnionType | None = ...,
    max_concurrent: int | None = ...,
    timeout: float | None = ...,
    retries: Retries = ...,
    isolation: Isolation | None = ...,
    memory_mb: int | None = ...,
    cpu_seconds: float | None = ...,
    description: str | None = ...,
    functional: bool = ...,
    resumes: Ranges = ...,
    drops: Ranges = ...,
) -> Decorator: ...
def agent(
    name: str,
    *,
    version: str = "1.0.0",
    input: Input = None,
    output: Input = None,
    max_concurrent: int | None = None,
    timeout: float | None = None,
    retries: Retries = None,
    isolation: Isolation | None = None,
    memory_mb: int | None = None,
    cpu_seconds: float | None = None,
    description: str | None = None,
    functional: bool = True,
    resumes: Ranges = (),
    drops: Ranges = (),
) -> Any:
    """Register a function ``(ctx, args)`` as the agent `name` (``@scope/name``; without a scope, ``@default``).

    `input` and `output` are JSON Schemas or types; arguments are checked before a run is accepted, the output before
    it completes. Without `input` the annotation of the second parameter is used, without `output` that of the result;
    what leaves all open (`Any`, a `dict` as the result) makes no schema.
    `timeout` is seconds per attempt. `retries` is a number of extra attempts after an agent error, or budgets
    by cause class ``{"agent": {"budget": 3, "base_s": 2, "cap_s": 60}, …}``.

    `isolation` is where the function runs: ``loop`` (the worker's event loop, as an ``async def`` does by default),
    ``thread`` (as a plain ``def`` does; an ``async def`` with a loop of its own), or ``process``, a child process that
    may use `memory_mb` MiB of memory and `cpu_seconds` of processor time for each attempt.

    A process may have several versions of an agent, each with a function of its own; a run is executed by the version
    it was submitted for. `resumes` are semver ranges of versions whose runs this code carries on once no worker has
    theirs; `drops` of versions whose runs then fail with ``version_dropped``. All others wait for a worker.

    Raises `TypeError` or `ValueError` for a function, a version or an option that no run could use, and for a
    second agent of the same name and version; the same declaration may be imported again.
    """
    full = declaring.check_name(name)
    ranges = declaring.ranges(full, version, resumes=resumes, drops=drops)
    declaring.check_options(
        full, version, timeout, max_concurrent, retries, {"input": input, "output": output}
    )

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        declaring.check_function(full, fn)
        declaring.check_isolation(full, isolation, declaring.is_async(fn), memory_mb, cpu_seconds)
        declaring.check_place(full, fn, isolation, 1)
        place = Place.of(fn, 1)
        _make_way(full, version, place)
        _registry[f"{full}@{version}"] = AgentDefinition(
            name=full,
            version=version,
            fn=fn,
            is_async=declaring.is_async(fn),
            description=description or (inspect.getdoc(fn) or "").split("\n\n")[0],
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
            **ranges,
            **_types_of(
                fn,  # an adapted agent knows its own
                getattr(fn, "input_schema", None) if input is None else input,
                getattr(fn, "output_schema", None) if output is None else output,
            ),
        )
        return fn

    return register


def _make_way(name: str, version: str, place: Place) -> None:
    """Forget what a reload of its module declares again. `ValueError` where another declaration has this version."""
    for key, known in list(_registry.items()):
        if known.name != name or known.place is None:
            continue
        if known.version == version and not place.replaces(known.place):
            raise ValueError(
                f"Two agents are named {name}: {known.place} and {place}, both of version {version}. Rename one, or "
                "give it another version."
            )
        if place.reloads(known.place):
            del _registry[key]


def registered() -> dict[str, AgentDefinition]:
    """Every agent registered in this process, by full name; of several versions of one the newest."""
    return newest(_registry.values())


def every_version() -> dict[str, AgentDefinition]:
    """Every version of every agent registered in this process, by name and version: ``@scope/name@1.2.0``."""
    return dict(_registry)


def newest(definitions: Iterable[AgentDefinition]) -> dict[str, AgentDefinition]:
    """Of each agent, by name, the version that a run takes which names none: the highest that is no prerelease, or the
    highest prerelease where there are no others."""
    found: dict[str, AgentDefinition] = {}
    for one in definitions:
        known = found.get(one.name)
        if known is None or declaring.precedence(one.version) > declaring.precedence(known.version):
            found[one.name] = one
    return found


def definition_of(fn: Any) -> AgentDefinition | None:
    """The agent that a decorated function is."""
    return next((definition for definition in _registry.values() if definition.fn is fn), None)


def restore(definitions: Mapping[str, AgentDefinition]) -> None:
    """Register exactly these again, as `every_version` gave them: an import that failed leaves none of its agents
    behind."""
    _registry.clear()
    _registry.update(definitions)


def _types_of(fn: Callable[..., Any], input: Input, output: Input) -> dict[str, Any]:
    """The fields of a definition about what its agent takes and gives.

    Where pydantic is not installed, no agent can run, and its types are looked at where one can.
    """
    if not extras.installed("pydantic"):
        return {
            f"{which}_schema": dict(given) if isinstance(given, Mapping) else None
            for which, given in (("input", input), ("output", output))
        }
    from runyard import json_types  # not at the top: a caller's program imports no pydantic

    kind = _args_kind(fn) if input is None else input
    accepted = None if isinstance(input, Mapping) else json_types.typed(kind)
    given = json_types.of_result(fn) if output is None else None
    if output is not None and not isinstance(output, Mapping):
        given = json_types.typed(output)
    found = {
        "input_schema": dict(input) if isinstance(input, Mapping) else json_types.schema_of_input(accepted),
        "output_schema": dict(output) if isinstance(output, Mapping) else json_types.schema_of_output(given),
    }
    _refuse_schemaless(fn, kind, input, output, found)
    of_annotations = {"input": input is None, "output": output is None}
    return found | {
        "args_type": accepted if found["input_schema"] is not None else None,
        "output_type": given,
        "dict_args": dict in (kind, typing.get_origin(kind)),
        "annotated": frozenset(name for name, derived in of_annotations.items() if derived),
    }


def _refuse_schemaless(
    fn: Callable[..., Any], kind: Any, input: Input, output: Input, found: Mapping[str, Any]
) -> None:
    """Refuse a type that was named, or is made of fields, and of which nothing can be made from JSON."""
    from pydantic import BaseModel

    from runyard import json_types

    structured = isinstance(kind, type) and (
        is_dataclass(kind) or typing.is_typeddict(kind) or issubclass(kind, BaseModel)
    )
    for which, given in (("input", kind if structured else input), ("output", output)):
        if given is not None and not isinstance(given, Mapping) and found[f"{which}_schema"] is None:
            why = json_types.unknown(given)
            if why:
                name = getattr(fn, "__qualname__", type(fn).__qualname__)
                raise TypeError(f"{name}: {which}: {why}")


def _args_kind(fn: Callable[..., Any]) -> Any:
    """What the second parameter is annotated with; `Any` where nothing is known."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return Any
    if len(parameters) < 2 or parameters[1].annotation is inspect.Parameter.empty:
        return Any
    from runyard import json_types

    try:
        return json_types.annotation(json_types.function_of(fn), parameters[1].name, strict=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise TypeError(
            f"{getattr(fn, '__qualname__', fn)}: the type of its arguments, {parameters[1].annotation!r}, is not known "
            f"where it is declared ({error}). Import it there, or give `input`."
        ) from None
