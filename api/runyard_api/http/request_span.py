"""The span of a request, in the trace of its caller where that sends one.

A read that no caller's trace asks for has none: callers poll, and each poll would be a trace of one span.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.responses import Response

from runyard_api.http.call import Call
from runyard_api.http.operations import HEALTH, Operation
from runyard_common import tracing

_READS: Final = ("GET", "HEAD")
_Answer = Callable[[Call, Operation | None], Awaitable[Response]]


async def answer_in_span(call: Call, operation: Operation | None, answer: _Answer) -> Response:
    """The answer. It ends the span; a stream goes on after it."""
    recorder = tracing.active()
    if recorder is None or operation is None or operation.path in (*HEALTH, "/metrics"):
        return await answer(call, operation)
    parent = recorder.extracted(call.headers)
    if call.method in _READS and recorder.stored(parent) is None:
        return await answer(call, operation)
    attributes = {
        "http.request.method": call.method,
        "http.route": operation.path,
        "url.scheme": call.scope.get("scheme"),
        "runyard.operation": operation.name,
        "runyard.request.id": call.request_id,
    }
    with recorder.span(f"{call.method} {operation.path}", attributes, "server", parent) as span:
        response = await answer(call, operation)
        span.set(http__response__status_code=response.status_code)
        if response.status_code >= 500:
            span.fail(str(response.status_code))
    return response
