"""Types that calls of a context name, where the code is elsewhere: they stay with the code.

What crosses is a JSON Schema or an agent's name, and the JSON form of the result, which is made a value here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from runyard import json_types
from runyard.json_types import DoesNotFit, Typed
from runyard_workers.agent_code import result_types
from runyard_workers.agent_code.result_types import restored_each
from runyard_workers.agent_code.values import shown
from runyard_workers.processes.calls import Bound

#: Makes what a call returns of the JSON form that comes back.
Restore = Callable[[Any], Any]
#: A call as it crosses: what it is given by position and by name, and what is made of its result.
Crossing = tuple[tuple[Any, ...], dict[str, Any], Restore | None]


def crossing(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    """A call of the context method `name` without types of the author's. Raises `AgentError` invalid_call."""
    prepare = _PREPARED.get(name)
    first = next(iter(args), None)
    if prepare is None or not args:
        return args, kwargs, None  # a call that is not complete is refused where it is served
    return prepare(first, args[1:], dict(kwargs))


def _step(name: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    call = f"ctx.step {shown(name)}"
    returns = kwargs.pop("returns", ...)
    if returns is ... and rest and isinstance(rest[0], Bound):
        kind = json_types.of_result(rest[0].fn)
    else:
        kind = result_types.named(returns, call)
    return (name, *rest), kwargs, _restore(kind, call, "invalid_result")


def _ask(question: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    if isinstance(question, list | tuple):
        return _ask_several(question, rest, kwargs)
    call = f"ctx.ask {shown(str(question)[:60])}"
    schema, kind = result_types.schema_of(kwargs.get("schema"), kwargs.pop("returns", ...), call)
    restore = _restore(kind, call, "invalid_answer")
    return (question, *rest), kwargs | {"schema": schema}, _or_none(restore, kwargs)


def _or_none(restore: Restore | None, kwargs: Mapping[str, Any]) -> Restore | None:
    """As `result_types.of_answer`: a default that is None stays so."""
    if restore is None or kwargs.get("default", ...) is not None:
        return restore
    return lambda answer: None if answer is None else restore(answer)


def _ask_several(questions: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    restores = dict[Any, Restore | None]()

    def asked(question: Any) -> Any:
        if not isinstance(question, Mapping):
            return question
        key, call = question.get("key"), f"ctx.ask {question.get('key')!r}"
        schema, kind = result_types.schema_of(question.get("schema"), ..., call)
        restores[key] = _or_none(_restore(kind, call, "invalid_answer"), kwargs)
        return question if kind is None else {**question, "schema": schema}

    def restore(answers: Any) -> Any:
        return {
            key: answer if (made := restores.get(key)) is None else made(answer)
            for key, answer in answers.items()
        }

    return ([asked(question) for question in questions], *rest), kwargs, restore


def _review(action: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    call = f"ctx.review {shown(action)}"
    schema, kind = result_types.schema_of(kwargs.get("schema"), ..., call)
    return (action, *rest), kwargs | {"schema": schema}, _restore(kind, call, "invalid_answer")


def _run(agent: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    name, child = result_types.named_agent(agent, "ctx.run")
    call = f"ctx.run {shown(name)}"
    kind = result_types.output_of(child, kwargs.pop("returns", ...), call)
    return (name, *rest), result_types.bound_to(child, kwargs), _restore(kind, call, "invalid_result")


def _start(agent: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    name, child = result_types.named_agent(agent, "ctx.start")
    return (name, *rest), result_types.bound_to(child, kwargs), None


def _map(agent: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Crossing:
    name, child = result_types.named_agent(agent, "ctx.map")
    call = f"ctx.map {shown(name)}"
    kind = result_types.output_of(child, kwargs.pop("returns", ...), call)
    rest = tuple(map(_listed, rest))
    kwargs = {key: _listed(value) if key == "args" else value for key, value in kwargs.items()}
    crossed = (name, *rest), result_types.bound_to(child, kwargs)
    if kind is None:
        return *crossed, None

    def restore(outputs: Any) -> Any:
        try:
            return outputs if result_types.are_themselves(kind, outputs) else restored_each(kind, outputs)
        except DoesNotFit as error:
            raise result_types.misfit(error, kind, call, "invalid_result") from None

    return *crossed, restore


def _listed(args: Any) -> Any:
    """Arguments of many children as a list: what gives them one by one stays here."""
    return list(args) if isinstance(args, Iterable) and not isinstance(args, str | bytes | Mapping) else args


def _restore(kind: Typed[Any] | None, call: str, code: str) -> Restore | None:
    if kind is None:
        return None

    def restore(value: Any) -> Any:
        try:
            return value if kind.is_itself(value) else kind.restore(value)
        except DoesNotFit as error:
            raise result_types.misfit(error, kind, call, code) from None

    return restore


_PREPARED: Final = {"step": _step, "ask": _ask, "review": _review, "run": _run, "start": _start, "map": _map}
