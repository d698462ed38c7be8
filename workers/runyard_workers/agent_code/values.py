"""Values that cross between an agent's code and the engine: in their one JSON form, within the bounds, or one clear
refusal that names the call. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from runyard import json_form
from runyard.errors import AgentError
from runyard.json_form import NotJson
from runyard_common.values import bounds

if TYPE_CHECKING:
    from runyard_common.settings import Settings

#: Members, and pieces of 32 letters, of a value that the event loop looks through itself.
_FEW: Final = 2_000
_LONGEST_TEXT: Final = 200  # characters of a name that is part of a message


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one run may store: bytes of JSON text, and a number of events."""

    output: int = 5 * 2**20
    step: int = 5 * 2**20
    event: int = 256 * 2**10
    events: int = 10_000
    questions: int = bounds.QUESTIONS.most
    open_questions: int = bounds.OPEN_QUESTIONS.most

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """The bounds of this installation."""
        return cls(
            settings.max_output_bytes,
            settings.max_step_bytes,
            settings.max_event_bytes,
            settings.max_events,
            settings.max_questions,
            settings.max_open_questions,
        )


def is_large(value: Any) -> bool:
    """Whether a value has so many members or letters that its measuring is no work for the event loop."""
    pending, left = [value], _FEW
    while pending:
        item = pending.pop()
        left -= 1 + (len(item) // 32 if isinstance(item, str | bytes | bytearray) else 0)
        if isinstance(item, Mapping):
            left -= len(item)
            pending.extend(islice(item.values(), max(0, left)))
        elif isinstance(item, list | tuple | set | frozenset):
            left -= len(item)
            pending.extend(islice(item, max(0, left)))
        if left <= 0:
            return True
    return False


def given(value: Any, call: str) -> Any:
    """A value given to `call`, in its JSON form. Raises `AgentError` value_not_json."""
    return _measured(value, call, "value_not_json")[0]


def output(value: Any, agent: str, bounds: Bounds) -> Any:
    """An agent's output. Raises `AgentError` result_not_json or output_too_large."""
    call = partial(_named, "The output of {}", agent)
    found, size = _measured(value, call, "result_not_json")
    return _bounded(found, size, bounds.output, call, "output_too_large", "RUNYARD_MAX_OUTPUT_BYTES")


def step_result(value: Any, name: str, bounds: Bounds) -> Any:
    """The result of a step. Raises `AgentError` result_not_json or step_result_too_large."""
    call = partial(_named, "The result of step {}", name)
    found, size = _measured(value, call, "result_not_json")
    return _bounded(found, size, bounds.step, call, "step_result_too_large", "RUNYARD_MAX_STEP_BYTES")


def arguments(value: Any, call: str, bounds: Bounds) -> Any:
    """What another agent is run with. Raises `AgentError` value_not_json or arguments_too_large."""
    found, size = _measured(value, call, "value_not_json")
    return _bounded(found, size, bounds.step, call, "arguments_too_large", "RUNYARD_MAX_STEP_BYTES")


def event(value: Any, call: str, bounds: Bounds) -> Any:
    """What an event, a question or a review carries. Raises `AgentError` value_not_json or event_too_large."""
    found, size = _measured(value, call, "value_not_json")
    return _bounded(found, size, bounds.event, call, "event_too_large", "RUNYARD_MAX_EVENT_BYTES")


def state(value: Any, call: str) -> Any:
    """What `ctx.state` keeps under one name. Raises `AgentError` value_not_json or state_full."""
    found, size = _measured(value, call, "value_not_json")
    most = bounds.STATE_VALUE
    return _bounded(found, size, most.most, call, most.code, "ctx.state")


def text(value: Any, call: str, what: str) -> str:
    """A text given to `call`. Raises `AgentError` invalid_call when it is none."""
    if not isinstance(value, str):
        raise AgentError(
            f"{call}: {what} must be text, not {type(value).__name__}.", code="invalid_call", call=call
        )
    return json_form.clean(str.__str__(value))


def name(value: Any, call: str, what: str = "the name") -> str:
    """As `text`, for what is stored as a name: without NUL, and not empty."""
    found = json_form.name(text(value, call, what))
    if not found.strip():
        raise AgentError(f"{call}: {what} is empty.", code="invalid_call", call=call)
    return found


#: The longest time span a call may name, in seconds: beyond it dates cannot be written.
LONGEST_WAIT: Final = 10 * 366 * 86_400.0


def seconds(value: Any, call: str, what: str) -> float | None:
    """A time span in seconds, or None. Raises `AgentError` invalid_call."""
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= LONGEST_WAIT:
        raise AgentError(
            f"{call}: {what} must be a positive number of seconds, ten years at most, not "
            f"{json_form.clean(repr(value))[:100]}.",
            code="invalid_call",
            call=call,
        )
    return float(value)


def fraction(value: Any, call: str) -> float:
    """A number, cut to between 0 and 1. Raises `AgentError` invalid_call."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise AgentError(
            f"{call}: the fraction must be a number from 0 to 1.", code="invalid_call", call=call
        )
    return max(0.0, min(1.0, number))


def one_of(value: Any, known: Sequence[str], call: str, what: str) -> None:
    """Refuse a value that is none of those known: `AgentError` invalid_call."""
    if not isinstance(value, str) or value not in known:
        raise AgentError(
            f"{call}: {what} must be one of {', '.join(known)}.",
            code="invalid_call",
            call=call,
        )


def too_many_events(call: str, bounds: Bounds) -> AgentError:
    """The refusal of one event more than a run may report."""
    return AgentError(
        f"{call}: this run has reported {bounds.events:,} events; RUNYARD_MAX_EVENTS allows no more.",
        code="too_many_events",
        call=call,
        most=bounds.events,
    )


def too_many_questions(asked: int, more: int, most: Bounds) -> AgentError | None:
    """The refusal of a run that has `asked` before and would ask `more` at once, where it may not."""
    if more > most.open_questions:
        return AgentError(
            f"The run would have {more:,} questions and reviews open at once; RUNYARD_MAX_OPEN_QUESTIONS allows "
            f"{most.open_questions:,}. Ask fewer at a time.",
            code="too_many_open_questions",
            most=most.open_questions,
        )
    if asked + more > most.questions:
        return AgentError(
            f"The run has asked {asked:,} questions and reviews; RUNYARD_MAX_QUESTIONS allows {most.questions:,} in "
            "all. Wait for longer between them, or go on in a run of its own.",
            code="too_many_questions",
            most=most.questions,
        )
    return None


def shown(name: Any) -> str:
    """A name as messages quote it."""
    return repr(json_form.name(str(name))[:_LONGEST_TEXT])


#: What gave a value, or how to put it in words: most values are refused by nothing.
_Call = str | Callable[[], str]


def _named(call: str, name: str) -> str:
    return call.format(shown(name))


def _measured(value: Any, call: _Call, code: str) -> tuple[Any, int]:
    try:
        return json_form.measure(value)
    except NotJson as error:
        call = call if isinstance(call, str) else call()
        raise AgentError(
            f"{call}, at {error.path}: {error.reason}.", code=code, call=call, path=error.path
        ) from None


def _bounded(value: Any, size: int, most: int, call: _Call, code: str, setting: str) -> Any:
    if size <= most:
        return value
    call = call if isinstance(call, str) else call()
    raise AgentError(
        f"{call} is {size:,} bytes as JSON; {setting} allows {most:,}. Keep large data in a file or a store of its "
        "own, and give its address.",
        code=code,
        call=call,
        bytes=size,
        most=most,
    )
