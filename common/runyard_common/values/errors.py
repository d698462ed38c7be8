"""Every refusal and failure Runyard names, each with a stable code.

    RunyardError
    ├── InvalidRequest 400      bad_json, unknown_field, invalid_input, …
    │   ├── ScheduleError       bad_schedule, bad_cron, …
    │   ├── PayloadTooLarge 413
    │   └── UnsupportedMedia 415
    ├── Unauthorized 401
    ├── PaymentRequired 402
    ├── Forbidden 403
    ├── NotFound 404
    ├── Conflict 409
    │   ├── IllegalTransition   the task's status does not allow it
    │   └── IdempotencyInProgress
    ├── IdempotencyConflict 422
    ├── TooManyRequests 429     backlog_full, rate_limited
    ├── WaitTimeout 504
    ├── Unavailable 503         database_unavailable, …
    │   └── ConfigurationChanged
    └── StaleFence              internal: this attempt no longer owns its task

Fronts render these, each in one place.
"""

from __future__ import annotations

from typing import Any, ClassVar


class RunyardError(Exception):
    """Something went wrong inside Runyard."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
        **details: Any,
    ) -> None:
        """`field` names the offending input (JSON path or header); `retry_after` is in seconds."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        if code is not None:
            self.code = code
        self.field = field
        self.retry_after = retry_after
        self.details = details
        super().__init__(self.message)


class InvalidRequest(RunyardError):
    """The request is malformed."""

    status = 400
    code = "invalid_request"
    title = "Invalid request"


class ScheduleError(InvalidRequest):
    """The schedule cannot be used as written.

    Codes: ``bad_schedule``, ``bad_cron``, ``cron_never_fires``, ``bad_timezone``, ``bad_date``,
    ``date_in_past``, ``date_too_far``, ``bad_delay``, ``delay_too_long``, ``bad_jitter``, ``bad_end``,
    ``bad_count``, ``bad_window``, ``bad_overlap``, ``bad_catch_up``.
    """

    code = "bad_schedule"
    title = "Bad schedule"


class PayloadTooLarge(InvalidRequest):
    """The request body is larger than this server accepts."""

    status = 413
    code = "payload_too_large"
    title = "Payload too large"


class UnsupportedMedia(InvalidRequest):
    """The content type is not one this route reads."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


class Unauthorized(RunyardError):
    """The credentials are missing, unknown, expired or revoked."""

    status = 401
    code = "unauthorized"
    title = "Unauthorized"


class PaymentRequired(RunyardError):
    """The quota or balance does not allow this run."""

    status = 402
    code = "quota_exceeded"
    title = "Payment required"


class Forbidden(RunyardError):
    """These credentials may not do this."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


class NotFound(RunyardError):
    """There is no such object in this organisation."""

    status = 404
    code = "not_found"
    title = "Not found"


class MethodNotAllowed(RunyardError):
    """The route does not answer this method."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"


class Conflict(RunyardError):
    """The object's state does not allow this."""

    status = 409
    code = "conflict"
    title = "Conflict"


class IllegalTransition(Conflict):
    """The task's status does not allow this."""

    code = "illegal_transition"

    def __init__(
        self, message: str | None = None, *, status: str = "", event: str = "", **details: Any
    ) -> None:
        super().__init__(
            message or f"A task that is {status} cannot {event}.", task_status=status, event=event, **details
        )


class IdempotencyInProgress(Conflict):
    """A request with the same Idempotency-Key is still being processed; wait and retry."""

    code = "idempotency_in_progress"
    title = "Idempotency in progress"


class IdempotencyConflict(RunyardError):
    """This Idempotency-Key was used with a different request body; use a new key."""

    status = 422
    code = "idempotency_conflict"
    title = "Idempotency conflict"


class TooManyRequests(RunyardError):
    """Too many requests; try again later."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"


class Unavailable(RunyardError):
    """A part this request needs is away; try again shortly."""

    status = 503
    code = "unavailable"
    title = "Service unavailable"


class ConfigurationChanged(Unavailable):
    """The organisation's configuration changes faster than this request is judged; send it again."""

    code = "configuration_changed"


class WaitTimeout(RunyardError):
    """The run did not end within the time this route waits; it goes on in the background."""

    status = 504
    code = "wait_timeout"
    title = "Gateway timeout"


class StaleFence(RunyardError):
    """This attempt no longer owns its task: the write was refused."""

    code = "stale_fence"


class ConfigurationError(RunyardError):
    """The settings cannot work."""

    code = "configuration"
