"""Classify what an agent's own code raised: the code, whose fault, and whether trying again may help. Never raises."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from runyard import json_form
from runyard.errors import AgentError, JournalMismatch, ProviderError
from runyard.json_form import NotJson
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.tasks import Failure
from runyard_common.values.errors import RunyardError
from runyard_workers.agent_code.exceptions import (
    Described,
    abnormal,
    kind_of,
    met_by_client,
    shortened,
    summary,
    text_of,
)
from runyard_workers.agent_code.tracebacks import rendered

#: Largest details of an error, in bytes of JSON text; a longer one is left out and named.
MOST_DETAILS: Final = 64 * 2**10
_LONGEST_CODE: Final = 100
_MOST_CAUSES: Final = 6


class AgentFailed(Exception):
    """The agent's own code failed; what it raised is the cause."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


def of_agent(error: BaseException) -> AgentFailed:
    """What `error` means when the agent's own code raised it: an outage that it met is no outage of ours."""
    try:
        return AgentFailed(of_error(error, own=True))
    except BaseException:  # noqa: BLE001 - attributes of an exception are its author's code
        return AgentFailed(Failure("agent_error", kind_of(error), Cause.AGENT, True))


def of_error(error: BaseException, own: bool) -> Failure:
    """The same without a guard; `own`: with the traceback."""
    if isinstance(error, AgentFailed):
        return error.failure
    if issubclass(type(error), Described):  # an exception may lie about its class
        return _described(error)
    if isinstance(error, AgentError):
        return _of_agent_error(error)
    if own and (met := _met_by_client(error)) is not None:
        return _of_agent_error(met)
    if isinstance(error, RunyardError):
        message = shortened(error.message)
        return Failure(error.code, message, Cause.INFRASTRUCTURE, error.status >= 500)
    if not isinstance(error, Exception) and not isinstance(error, BaseExceptionGroup):
        error = abnormal(error)
    # An agent's own exception: its retry budget (0 unless the agent gave one) decides.
    traceback = rendered(error) if own else ""
    return Failure("agent_error", summary(error), Cause.AGENT, True, traceback=traceback)


def _described(error: Any) -> Failure:
    """What the exception means that `error` takes the place of, with the step that this was raised in."""
    found = Failure(**{**error.failure, "cause": Cause(error.failure["cause"])})
    is_named = found.code != AgentError.code or isinstance(error, AgentError)
    return found if is_named else replace(found, message=summary(error))


def _met_by_client(error: BaseException) -> AgentError | None:
    """What a client of `Context.client` noted about the call whose error this is, in its library's terms."""
    one: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if one is None:
            return None
        if (found := met_by_client(one)) is not None:
            return found
        one = one.__cause__
    return None


def _of_agent_error(error: AgentError) -> Failure:
    cause = Cause.PROVIDER if isinstance(error, ProviderError) else getattr(error, "cause", Cause.AGENT)
    code = _code(error.code)
    retryable = bool(error.retryable) or (code == AgentError.code and not isinstance(error, JournalMismatch))
    return Failure(
        code,
        text_of(error) or kind_of(error),
        cause if isinstance(cause, Cause) else Cause.AGENT,
        retryable and not isinstance(error, JournalMismatch),
        _seconds(getattr(error, "retry_after", None)),
        _details(getattr(error, "details", {})),
    )


def _code(code: Any) -> str:
    return json_form.name(code)[:_LONGEST_CODE] if isinstance(code, str) and code.strip() else AgentError.code


def _seconds(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and value >= 0 else None


def _details(details: Any) -> dict[str, Any]:
    """The details in JSON form; one that has none, or is too long, is named and left out."""
    if not isinstance(details, dict):
        return {}
    found: dict[str, Any] = {}
    left = MOST_DETAILS
    for name, value in details.items():
        key = json_form.name(str(name))
        try:
            kept, size = json_form.measure(value)
        except NotJson as error:
            kept, size = f"(left out: {error.reason})", 0
        if size > left:
            kept, size = f"(left out: {size:,} bytes)", 0
        left -= size
        found[key] = kept
    return found
