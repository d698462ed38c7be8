"""How a declared agent's run fails, each way with a stable code and a cause class.

AgentError
├── BadOptions       what the caller asked for cannot be done   (input)
├── OutputInvalid    the model's answer never fitted its schema (agent)
├── LimitReached     turn_limit, budget_exhausted, …            (limit)
└── ModelRefused     the provider refuses this request (provider, not retried)
"""

from __future__ import annotations

from runyard.errors import AgentError
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.values.errors import RunyardError


class BadOptions(AgentError):
    """The run asks for something that cannot be done."""

    code = "invalid_options"
    cause = Cause.INPUT

    @classmethod
    def of(cls, refusal: RunyardError) -> BadOptions:
        """The same refusal, as the run's failure."""
        return cls(refusal.message, code=refusal.code, field=refusal.field)


class OutputInvalid(AgentError):
    """The model's answers did not fit the output schema."""

    code = "output_invalid"
    cause = Cause.AGENT


class LimitReached(AgentError):
    """The run has used up what it may use."""

    code = "limit_reached"
    cause = Cause.LIMIT


class ModelRefused(AgentError):
    """The model provider refuses this request, and would refuse it again."""

    code = "model_request_rejected"
    cause = Cause.PROVIDER
