"""Refusals as appstrate's clients read them: problem details with the contract's own codes (sections 2, 5)."""

from __future__ import annotations

import math
from typing import Any, Final

import orjson
from pydantic import Field
from starlette.responses import Response

from runyard_api.http import errors
from runyard_common.values.errors import RunyardError
from runyard_common.values.models import Model

TYPE: Final = "https://docs.appstrate.dev/errors/"
#: Readiness, in the order in which it is judged (section 3).
READINESS: Final = (
    "empty_prompt", "missing_skill", "missing_tool", "provider_not_enabled", "dependency_not_satisfied",
    "needs_reconnection", "scope_insufficient", "config_incomplete", "model_not_configured",
)  # fmt: skip
#: The codes of the contract by status, the general one first; ours that are not among them become that one.
CODES: Final[dict[int, tuple[str, ...]]] = {
    400: (
        "invalid_request", "invalid_idempotency_key", "invalid_api_version", "unsupported_api_version",
        "invalid_end_user_id", "header_not_allowed", "webhook_limit_reached", *READINESS,
    ),
    401: ("unauthorized",),
    402: ("quota_exceeded",),
    403: ("forbidden", "invalid_end_user", "operation_not_allowed", "scope_mismatch"),
    404: ("not_found", "agent_not_found"),
    409: (
        "conflict", "idempotency_in_progress", "not_cancellable", "run_in_progress", "agent_in_use",
        "external_id_taken",
    ),
    422: ("idempotency_conflict",),
    429: ("rate_limited",),
    500: ("internal_error",),
    503: ("service_unavailable", "shutting_down"),
}  # fmt: skip
_TITLES: Final = {409: "Conflict", 402: "Payment Required"}
#: Fields by the names they have here.
_PARAMS: Final = {
    "model": "modelId",
    "schedule_id": "id",
    "payload_mode": "payloadMode",
    "application_id": "applicationId",
}
#: Codes of ours that are one of the contract's by another name.
_SAME: Final = {"unknown_model": "model_not_configured", "model_key_missing": "model_not_configured"}
_OWN_TITLES: Final = frozenset({"idempotency_in_progress", "idempotency_conflict"})
_DETAILS: Final = {
    "idempotency_in_progress": (
        "A request with the same Idempotency-Key is already being processed. Please wait and retry."
    ),
    "idempotency_conflict": (
        "This Idempotency-Key was already used with a different request body. Use a new key for different "
        "requests."
    ),
}


class FieldError(Model):
    """One of several faults."""

    field: str
    code: str
    message: str


class AppstrateProblem(Model):
    """A refusal (RFC 9457)."""

    type: str = Field(description="The code's page.")
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do.")
    code: str = Field(description="Stable: what programs branch on.")
    requestId: str  # noqa: N815
    instance: str | None = None
    param: str | None = Field(None, description="The offending field or header.")
    retryAfter: int | None = Field(None, description="Seconds.")  # noqa: N815
    errors: list[FieldError] | None = None


def code_of(error: RunyardError) -> str:
    known = CODES.get(error.status)
    if known is None:
        return error.code
    code = _SAME.get(error.code, error.code)
    return code if code in known else known[0]


def problem(error: RunyardError, request_id: str) -> dict[str, Any]:
    code = code_of(error)
    body: dict[str, Any] = {
        "type": TYPE + code.replace("_", "-"),
        "title": _title(error.status, code),
        "status": error.status,
        "detail": _DETAILS.get(code, error.message),
        "instance": f"urn:appstrate:request:{request_id}",
        "code": code,
        "requestId": request_id,
    }
    if error.field is not None:
        body["param"] = _PARAMS.get(error.field, error.field)
    if error.retry_after is not None:
        body["retryAfter"] = max(1, math.ceil(error.retry_after))
    if "errors" in error.details:
        body["errors"] = error.details["errors"]
    return body


def _title(status: int, code: str) -> str:
    if status in _TITLES and code not in _OWN_TITLES:
        return _TITLES[status]
    return code.replace("_", " ").title()


def answer(error: RunyardError, request_id: str) -> Response:
    body = orjson.dumps(problem(error, request_id), default=str)
    return Response(body, error.status, errors.headers(error), errors.MEDIA_TYPE)
