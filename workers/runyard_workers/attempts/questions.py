"""What an agent asks, checked before it is asked: a question that no answer fits would wait without end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runyard.errors import AgentError
from runyard_common.human_tasks import rules
from runyard_common.schemas import checks
from runyard_common.values.errors import InvalidRequest, RunyardError
from runyard_workers.agent_code import values
from runyard_workers.agent_code.values import Bounds

LONGEST_KEY: Final = 100  # characters of a question's key


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it is stored, and the value used where no answer comes."""

    call: str
    payload: dict[str, Any]
    default: Any

    @classmethod
    def of(cls, text: Any, schema: Any, options: Any, default: Any, bounds: Bounds) -> Question:
        """Raises `AgentError` invalid_schema; invalid_question for options or a default that do not fit the schema;
        value_not_json; event_too_large."""
        text = values.text(text, "ctx.ask", "the question")
        if not text.strip():
            raise AgentError("ctx.ask: the question is empty.", code="invalid_question")
        call = f"ctx.ask {values.shown(text[:60])}"
        offered = _options(options, call)
        if schema is None and offered:
            schema = {"enum": offered}
        payload: dict[str, Any] = {"text": text}
        default = values.event(default, f"{call}, default", bounds)
        if schema is not None:
            payload["schema"] = usable(schema, call)
            for option in offered:
                refuse_misfit(option, payload["schema"], call, "option")
            if default is not None:
                refuse_misfit(default, payload["schema"], call, "default")
        payload |= {"options": offered} if offered else {}
        return cls(call, values.event(payload, call, bounds), default)


def on_no_answer(on_timeout: str | None, has_default: bool, call: str) -> str:
    """See `rules.on_no_answer`. Raises `AgentError` invalid_call."""
    try:
        return rules.on_no_answer(on_timeout, has_default)
    except InvalidRequest as refusal:
        raise AgentError(f"{call}: {refusal.message}", code="invalid_call", call=call) from None


def usable(schema: Any, call: str) -> Any:
    """A JSON Schema that answers can be checked against. Raises `AgentError` invalid_schema."""
    found = values.given(schema, f"{call}, schema")
    if found is False or found == {"not": {}}:
        raise AgentError(
            f"{call}: no answer fits its schema.", code="invalid_schema", field="schema", call=call
        )
    try:
        checks.check_schema(found)
    except RunyardError as refusal:
        raise AgentError(f"{call}: {refusal.message}", code=refusal.code, field="schema", call=call) from None
    return found


def _options(options: Any, call: str) -> list[Any]:
    if options is None:
        return []
    if isinstance(options, str) or not isinstance(options, Sequence):
        raise AgentError(
            f"{call}: options must be a list, not {type(options).__name__}.",
            code="invalid_question",
            call=call,
        )
    if not options:
        raise AgentError(
            f"{call}: options is empty: leave it out, or offer some.", code="invalid_question", call=call
        )
    return list(values.given(list(options), f"{call}, options"))


def refuse_misfit(value: Any, schema: Any, call: str, what: str, code: str = "invalid_question") -> None:
    """Refuse what does not fit the schema that answers are checked against, as an `AgentError` with this code."""
    try:
        checks.check(value, schema, field=what, code=code)
    except RunyardError as refusal:
        verb = "do" if what.endswith("s") else "does"
        raise AgentError(
            f"{call}: the {what} {values.shown(value)[:100]} {verb} not fit the schema: {refusal.message}",
            code=code,
            call=call,
        ) from None


def one_of_several(question: Any) -> Mapping[str, Any]:
    """One of several questions as it was given, its key a name. Raises `AgentError` invalid_question."""
    if not isinstance(question, Mapping) or not isinstance(question.get("key"), str):
        raise AgentError(
            "ctx.ask: each of several questions is {key, text, schema?, options?}.", code="invalid_question"
        )
    key = values.name(question["key"], "ctx.ask", "the key")
    if len(key) > LONGEST_KEY:
        raise AgentError(
            f"ctx.ask: the key {values.shown(key)} is longer than {LONGEST_KEY} characters.",
            code="invalid_question",
        )
    return {**question, "key": key}
