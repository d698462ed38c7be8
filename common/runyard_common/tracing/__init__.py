"""Traces (OpenTelemetry), where a standard `OTEL_*` setting asks for them. Else nothing of it is imported, and a span
is one object that does nothing.

Only `recorder` touches the library; the rest of the code calls what is here, or the `Recorder` that `active()` gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from runyard.extras import advice
from runyard_common.tracing.span import NO_SPAN, Span

if TYPE_CHECKING:
    from runyard_common.tracing.recorder import Recorder

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: What the end of a process may wait for a collector, in seconds.
LAST_SECONDS: Final = 2.0


_recorder: Recorder | None = None


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard settings ask for traces: an exporter or an endpoint of one, and no OTEL_SDK_DISABLED."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporters:
        return exporters != "none"
    return any(environment.get(name, "").strip() for name in _ENDPOINTS)


def start(service: str) -> None:
    """Record the spans of this process from now on, if that is wanted.

    `service` is its name in traces unless a setting gives another. What is missing or wrong is a warning: no trace is
    worth a process that does not start.
    """
    global _recorder  # noqa: PLW0603 - one of a process, as the library's own
    if _recorder is not None or not wanted():
        return
    try:
        from runyard_common.tracing import recorder
    except ImportError as missing:
        _warn(
            advice("Recording traces, which OTEL_* settings ask for,", "otel"),
            action="trace", code="missing_extra", missing=missing.name,
        )  # fmt: skip
        return
    try:
        _recorder = recorder.of_environment(service)
    except Exception as error:  # noqa: BLE001 - settings of the library's, which it judges in ways of its own
        _warn("OTEL_* settings cannot be used; there are no traces.", action="trace", reason=str(error)[:300])


def _warn(message: str, **fields: Any) -> None:
    import structlog  # a process of an agent's own needs it for nothing else

    structlog.get_logger("runyard.tracing").warning(message, **fields)


def use(recorder: Recorder | None) -> None:
    """Record with this one from now on, or with none: for tests."""
    global _recorder  # noqa: PLW0603
    _recorder = recorder


def active() -> Recorder | None:
    """What records spans here; None where traces are off."""
    return _recorder


def stop(seconds: float = LAST_SECONDS) -> None:
    """Send what is left, for so many seconds at most."""
    if _recorder is not None:
        _recorder.stop(seconds)


def span(name: str, **attributes: Any) -> Span:
    """A span inside the current one, with attributes as of `Span.set`."""
    return NO_SPAN if _recorder is None else _recorder.span(name, attributes)


def current() -> Span:
    """The span that the code is in."""
    return NO_SPAN if _recorder is None else _recorder.current()


def log_ids() -> Mapping[str, str]:
    """`trace_id` and `span_id` of the current span, for a line of a log; empty where there is none."""
    return {} if _recorder is None else _recorder.log_ids()


def stored() -> str | None:
    """The current span as text, for what goes on inside it elsewhere (`inside`); None where there is none."""
    return None if _recorder is None else _recorder.stored() or None


def inside(stored: str | None) -> AbstractContextManager[None]:
    """Inside, the span that `stored` names is the current one."""
    return nullcontext() if _recorder is None or stored is None else _recorder.inside(stored)
