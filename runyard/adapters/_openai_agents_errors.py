"""What the exceptions of the OpenAI Agents SDK mean for a run. Code may catch each as the library's own."""

from __future__ import annotations

from typing import Any, Final

from agents import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    ModelRefusalError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
    UserError,
)

from runyard import json_form
from runyard.errors import AgentError
from runyard.json_form import NotJson

_TOOL_FAILED: Final = "Error running tool"


class MaxTurns(AgentError, MaxTurnsExceeded):
    """The run took more turns than it may."""

    code = "max_turns"


class Refusal(AgentError, ModelRefusalError):
    """The model refused to answer."""

    code = "model_refused"


class Behavior(AgentError, ModelBehaviorError):
    """The model's answer is of no use."""

    code = "model_behavior"


class _Tripped(AgentError):
    code = "guardrail_tripped"


class InputTripped(_Tripped, InputGuardrailTripwireTriggered):
    """A guardrail of the input stopped the run."""


class OutputTripped(_Tripped, OutputGuardrailTripwireTriggered):
    """A guardrail of the output stopped the run."""


class ToolInputTripped(_Tripped, ToolInputGuardrailTripwireTriggered):
    """A guardrail of a tool's input stopped the run."""


class ToolOutputTripped(_Tripped, ToolOutputGuardrailTripwireTriggered):
    """A guardrail of a tool's output stopped the run."""


_KINDS: Final[dict[type[AgentsException], type[AgentError]]] = {
    MaxTurnsExceeded: MaxTurns,
    ModelRefusalError: Refusal,
    ModelBehaviorError: Behavior,
    InputGuardrailTripwireTriggered: InputTripped,
    OutputGuardrailTripwireTriggered: OutputTripped,
    ToolInputGuardrailTripwireTriggered: ToolInputTripped,
    ToolOutputGuardrailTripwireTriggered: ToolOutputTripped,
}


def meant_by(error: AgentsException) -> Exception:
    """What a failure of the library's means for the run: a repetition would meet the same, since it is on record."""
    if isinstance(error, UserError) and str(error).startswith(_TOOL_FAILED):
        return error.__cause__ if isinstance(error.__cause__, Exception) else error
    kind = next((kind for library, kind in _KINDS.items() if isinstance(error, library)), None)
    if kind is None or isinstance(error, AgentError):
        return error
    message, details = str(error), dict[str, Any]()
    if issubclass(kind, _Tripped):
        result: Any = getattr(error, "guardrail_result", error)
        details = {"guardrail": result.guardrail.get_name(), "output_info": _info(result.output.output_info)}
        message = f"The guardrail {details['guardrail']} stopped the run."
    made = kind.__new__(kind)  # constructors of the library's make texts of their own
    vars(made).update(vars(error))
    made.args, made.message, made.details = (message,), message, details
    return made


def _info(info: Any) -> Any:
    try:
        return json_form.convert(info)
    except NotJson:
        return str(info)
