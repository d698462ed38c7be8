"""The span of a delivery's attempt, in the trace of its run."""

from __future__ import annotations

from runyard_common import tracing
from runyard_common.tracing.span import NO_SPAN, Span
from runyard_common.webhooks.queries.delivery_queue import Outgoing


def of_delivery(sent: Outgoing) -> Span:
    """Its address is left out: receivers may have secrets in it."""
    recorder = tracing.active()
    if recorder is None:
        return NO_SPAN
    attributes = {
        "http.request.method": "POST",
        "http.request.resend_count": sent.attempt - 1 or None,
        "server.address": sent.host,
        "runyard.delivery.id": sent.id,
        "runyard.event": sent.event_type,
        "runyard.task.id": sent.task_id,
    }
    parent = None
    if sent.trace is not None and sent.task_id is not None:
        parent = recorder.run(recorder.trace_of(sent.task_id, *sent.trace))
    return recorder.span(f"deliver {sent.event_type}", attributes, "client", parent)


def headers() -> dict[str, str]:
    """What carries the trace on to the receiver."""
    recorder = tracing.active()
    return {} if recorder is None else recorder.headers()
