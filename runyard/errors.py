"""What an agent may raise, and what its context raises at it.

AgentError                fails the run with a code of the agent's own
├── ProviderError         an outside service failed: retried under the provider budget
├── RetryLater            try the whole attempt again later, under the agent budget
├── Rejected              a person rejected a review
├── ChildFailed           a child task ended without success
├── EventTimeout          an event did not come in time
├── StepFailed            a journaled step failed in an earlier attempt
└── JournalMismatch       the agent's code no longer fits what the task has done
AbnormalExit              code left by SystemExit, a cancellation of its own, … (an ordinary Exception)
Cancelled                 the task was stopped, timed out, or this worker lost it (a BaseException)
Suspension                the run leaves its worker to wait (a BaseException; never catch it)
"""

from __future__ import annotations

from typing import Any, Final

#: In the extensions of a client's request: the `AgentError` that its failure means for the run.
FAILURE: Final = "runyard.failure"


class AgentError(Exception):
    """The agent failed.

    `code` is stable and machine-readable, `details` JSON.
    """

    code = "agent_error"
    retryable = False

    def __init__(
        self, message: str = "", *, code: str | None = None, retryable: bool | None = None, **details: Any
    ):
        self.message = message or next(iter((type(self).__doc__ or "").splitlines()), type(self).__name__)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable
        self.details = details
        super().__init__(self.message)


class ProviderError(AgentError):
    """An outside service failed. `retry_after` is in seconds, where the service sent one."""

    code = "provider_error"
    retryable = True

    def __init__(self, message: str = "", *, retry_after: float | None = None, **options: Any):
        super().__init__(message, **options)
        self.retry_after = retry_after


class RetryLater(AgentError):
    """Try this run again later, where the agent's `retries` leave an attempt: without them it fails at once."""

    code = "retry_later"
    retryable = True

    def __init__(self, message: str = "", *, retry_after: float | None = None, **options: Any):
        super().__init__(message, **options)
        self.retry_after = retry_after


class Rejected(AgentError):
    """A person rejected the step."""

    code = "rejected"


class ChildFailed(AgentError):
    """A child task ended without success."""

    code = "child_failed"


class EventTimeout(AgentError):
    """The event did not come in time."""

    code = "event_timeout"


class StepFailed(AgentError):
    """A step failed in an earlier attempt and its failure was journaled."""

    code = "step_failed"


class JournalMismatch(AgentError):
    """The agent's code no longer fits the journal of this task."""

    code = "journal_mismatch"


class AbnormalExit(Exception):
    """Replaces an exception that must not leave the code it was raised in: SystemExit, KeyboardInterrupt,
    GeneratorExit, StopIteration, a cancellation that Runyard did not order, any other BaseException.

    `type` is that exception's name; the text describes what happened.
    """

    def __init__(self, message: str = "", type: str = "BaseException"):
        self.message = message
        self.type = type
        super().__init__(message)


class Cancelled(BaseException):
    """The task was stopped or ran out of time; leave at once."""


class Suspension(BaseException):
    """The run leaves its worker to wait for a person or a child; it resumes from the top, replaying its journal."""
