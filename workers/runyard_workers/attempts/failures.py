"""Classify what an attempt ended with: the code, whose fault, and whether trying again may help. Never raises."""

from __future__ import annotations

from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from runyard.errors import AgentError
from runyard_common.runs.rules.lifecycle import Cause
from runyard_common.runs.rules.tasks import Failure
from runyard_common.values.errors import RunyardError
from runyard_workers.agent_code.exceptions import kind_of, summary, text_of
from runyard_workers.agent_code.failures import AgentFailed, of_error


def classify(error: BaseException) -> Failure:
    """The failure that `error` means for the run."""
    try:
        return _classified(error)
    except BaseException:  # noqa: BLE001 - attributes of an exception are its author's code
        return Failure("agent_error", kind_of(error), Cause.AGENT, True)


def _classified(error: BaseException) -> Failure:
    if isinstance(error, AgentFailed | AgentError | RunyardError):
        return of_error(error, own=False)
    if isinstance(error, DBAPIError | PoolTimeout | StatementError):
        return _of_database(error)
    if isinstance(error, ConnectionError | TimeoutError):
        return Failure("connection_failed", summary(error), Cause.PROVIDER, True)
    return of_error(error, own=False)


def _of_database(error: Exception) -> Failure:
    """Never with the statement, which has other organisations' data, nor the address of the server."""
    if isinstance(error, DBAPIError) and not isinstance(error, DataError):
        return Failure(
            "database_unavailable",
            f"The database did not carry out a write ({kind_of(error)}).",
            Cause.INFRASTRUCTURE,
            retryable=True,
        )
    if isinstance(error, PoolTimeout):
        return Failure(
            "database_unavailable", "No database connection was free.", Cause.INFRASTRUCTURE, retryable=True
        )
    return Failure("value_not_storable", f"The database refused a value: {text_of(error)}", Cause.AGENT)
