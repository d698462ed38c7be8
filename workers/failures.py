"""Classify what an agent raised: the code, whose fault, and whether trying again may help. Pure."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from common.domain.errors import RunyardError
from common.domain.lifecycle import Cause
from common.domain.tasks import Failure
from runyard.errors import AgentError, JournalMismatch, ProviderError

_MAX_MESSAGE = 2000


def classify(error: BaseException) -> Failure:
    """The failure that `error` means for the run."""
    message = (str(error) or type(error).__name__)[:_MAX_MESSAGE]
    if isinstance(error, JournalMismatch):
        return Failure(error.code, message, Cause.AGENT, False, details=error.details)
    if isinstance(error, ProviderError):
        return Failure(error.code, message, Cause.PROVIDER, error.retryable, error.retry_after, error.details)
    if isinstance(error, AgentError):
        after = getattr(error, "retry_after", None)
        return Failure(
            error.code,
            message,
            getattr(error, "cause", Cause.AGENT),
            error.retryable or _retries(error),
            after,
            error.details,
        )
    if isinstance(error, RunyardError):
        return Failure(error.code, message, Cause.INFRASTRUCTURE, error.status >= 500)
    if isinstance(error, DBAPIError | PoolTimeout):
        return Failure("database_unavailable", message, Cause.INFRASTRUCTURE, retryable=True)
    if isinstance(error, ConnectionError | TimeoutError):
        return Failure("connection_failed", f"{type(error).__name__}: {message}", Cause.PROVIDER, True)
    # An agent's own exception: its retry budget (0 unless the agent gave one) decides.
    return Failure("agent_error", f"{type(error).__name__}: {message}"[:_MAX_MESSAGE], Cause.AGENT, True)


def _retries(error: AgentError) -> bool:
    return error.code == AgentError.code
