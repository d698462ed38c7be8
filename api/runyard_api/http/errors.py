"""Refusals on the wire: RFC 9457 problem details, which also carry the one `error` text some clients read."""

from __future__ import annotations

import math
from typing import Any, Final

import orjson
from starlette.responses import Response

from runyard_api.http.paths import under
from runyard_common.values import bounds
from runyard_common.values.errors import RunyardError, Unauthorized

MEDIA_TYPE: Final = "application/problem+json"
#: Where the error codes are explained.
EXPLAINED: Final = "/docs#error-"
_OURS: Final = frozenset(
    {"type", "title", "status", "detail", "error", "code", "field", "retry_after", "request_id"}
)


#: Bytes of a request's path, query and headers together.
LONGEST_HEAD: Final = bounds.HEAD.most


class HeadersTooLarge(RunyardError):
    """The request's headers are too large."""

    status = 431
    code = "headers_too_large"
    title = "Headers too large"


class RequestTimeout(RunyardError):
    """The request body did not arrive in time; send it again."""

    status = 408
    code = "request_timeout"
    title = "Request timeout"


def problem(error: RunyardError, request_id: str) -> dict[str, Any]:
    """The problem document of an error; its details become extension members."""
    body: dict[str, Any] = {
        "type": under(EXPLAINED) + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "error": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if error.field is not None:
        body["field"] = error.field
    if error.retry_after is not None:
        body["retry_after"] = math.ceil(error.retry_after)
    return body | {name: value for name, value in error.details.items() if name not in _OURS}


def headers(error: RunyardError) -> dict[str, str]:
    """The headers an error brings: Retry-After, WWW-Authenticate."""
    found: dict[str, str] = {}
    if error.retry_after is not None:
        found["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthorized):
        found["www-authenticate"] = 'Bearer realm="runyard"'
    return found


def render(error: RunyardError, request_id: str) -> Response:
    body = orjson.dumps(problem(error, request_id), option=orjson.OPT_NON_STR_KEYS, default=str)
    return Response(body, error.status, headers(error), MEDIA_TYPE)
