"""Records spans with OpenTelemetry's SDK. Ids of runs and attempts follow from the task: whichever process writes one
of their spans, and however many have died meanwhile, the others find their parent.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from runyard.errors import AgentError, Cancelled, Suspension
from runyard_common.tracing.span import Span
from runyard_common.values.errors import RunyardError

_W3C: Final = TraceContextTextMapPropagator()
_PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_NS: Final = 1_000_000_000
#: Longest stored context, in characters: a tracestate has at most 512.
_LONGEST: Final = 600
KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
    "producer": SpanKind.PRODUCER,
}


@dataclass(frozen=True, slots=True)
class RunTrace:
    """What the trace of a run follows from: its task, and the context it was stored with (`Recorder.stored`)."""

    task_id: str
    traceparent: str | None
    agent: str


def of_environment(service: str) -> Recorder:
    """The recorder that the environment describes. Raises `LookupError` for an exporter that is not installed."""
    names = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "").lower().split(",")]
    processors = [BatchSpanProcessor(_exporter(name)) for name in names if name not in ("", "none")]
    return Recorder(service, *(processors or [BatchSpanProcessor(_exporter("otlp"))]))


def _exporter(name: str) -> Any:
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        name = _PROTOCOLS.get(protocol.strip().lower(), protocol)
    found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not found:
        raise LookupError(f"There is no exporter {name!r}: install the package that has it.")
    return found[0].load()()


class _Ids(RandomIdGenerator):
    """Random ids, but for the next span where it is given."""

    def __init__(self) -> None:
        self._next = threading.local()

    def give(self, span_id: int | None, trace_id: int | None = None) -> None:
        """The ids of the span that this thread starts next."""
        self._next.span, self._next.trace = span_id, trace_id

    def generate_span_id(self) -> int:
        given: int | None = getattr(self._next, "span", None)
        return super().generate_span_id() if given is None else given

    def generate_trace_id(self) -> int:
        given: int | None = getattr(self._next, "trace", None)
        return super().generate_trace_id() if given is None else given


class Recorder:
    """One of a process. Its methods may be called from any thread; none of them waits for a collector."""

    def __init__(self, service: str, *processors: SpanProcessor) -> None:
        """The SDK reads samplers, limits, resource attributes and batch sizes from the environment."""
        own = {"runyard.process": service.removeprefix("runyard-")}
        named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create(own if named else own | {"service.name": service}),
            id_generator=self._ids,
            shutdown_on_exit=False,  # it would wait for a collector that is away
        )
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("runyard")
        self._silent_until = 0.0
        self.ready: deque[Any] = deque(maxlen=10_000)  # of `wake_ups`

    # -- the process -----------------------------------------------------------------------------------------

    def serve_authors(self) -> None:
        """Spans that authors' code makes with OpenTelemetry's API go where ours go, unless it has set a provider."""
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(self._provider)

    def flush(self, seconds: float) -> None:
        """Send what there is within `seconds`; where a collector does not take it, not again for a minute."""
        if time.monotonic() < self._silent_until:
            return
        sender = threading.Thread(target=self._provider.force_flush, args=(int(seconds * 1000),), daemon=True)
        sender.start()
        sender.join(seconds)
        if sender.is_alive():
            self._silent_until = time.monotonic() + 60

    def stop(self, seconds: float) -> None:
        """Send what is left within `seconds`, and record no more."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(seconds)

    # -- spans -----------------------------------------------------------------------------------------------

    def span(
        self,
        name: str,
        attributes: Mapping[str, Any],
        kind: str = "internal",
        parent: Context | None = None,
        began: float | None = None,
        span_id: int | None = None,
    ) -> OpenSpan:
        """A span, in `parent` or the current one; `began` is in epoch seconds."""
        return OpenSpan(self._begun(name, attributes, kind, parent, began, span_id), parent)

    def current(self) -> Span:
        """The span that the code is in."""
        return OpenSpan(trace.get_current_span(), None)

    def _begun(
        self,
        name: str,
        attributes: Mapping[str, Any],
        kind: str,
        parent: Context | None,
        began: float | None,
        span_id: int | None = None,
        trace_id: int | None = None,
    ) -> trace.Span:
        self._ids.give(span_id, trace_id)
        try:
            return self._tracer.start_span(
                name,
                context=parent,
                kind=KINDS[kind],
                attributes=_named(attributes),
                start_time=None if began is None else int(began * _NS),
                record_exception=False,
                set_status_on_exception=False,
            )
        finally:
            self._ids.give(None)

    def write(
        self,
        name: str,
        attributes: Mapping[str, Any],
        parent: Context,
        began: float,
        ended: float,
        *,
        error: str | None = None,
        span_id: int | None = None,
        kind: str = "internal",
    ) -> None:
        """A span that is over; times are epoch seconds."""
        self._close(self._begun(name, attributes, kind, parent, began, span_id), began, ended, error)

    @staticmethod
    def _close(span: trace.Span, began: float, ended: float, error: str | None) -> None:
        if error is not None:
            OpenSpan(span, None).fail(error)
        span.end(int(max(began, ended) * _NS))

    # -- runs ------------------------------------------------------------------------------------------------

    def run(self, run: RunTrace) -> Context:
        """The context whose current span is the run's own, which is written when the run ends."""
        parent = _parent(run.traceparent)
        if parent is None:
            trace_id = _trace_id(run.task_id)
            sampled = self._provider.sampler.should_sample(
                Context(), trace_id, _run_name(run), SpanKind.INTERNAL
            )
            is_sampled = sampled.decision is Decision.RECORD_AND_SAMPLE
            flags = TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT
            return _remote(SpanContext(trace_id, span_id(run.task_id), True, TraceFlags(flags)))
        found = SpanContext(
            parent.trace_id, span_id(run.task_id), True, parent.trace_flags, parent.trace_state
        )
        return _remote(found)

    def attempt(self, run: RunTrace, number: int) -> Context:
        """The context whose current span is that of an attempt, whether or not that is written yet."""
        of = trace.get_current_span(self.run(run)).get_span_context()
        own = span_id(run.task_id, number)
        return _remote(SpanContext(of.trace_id, own, True, of.trace_flags, of.trace_state))

    def write_run(
        self, run: RunTrace, attributes: Mapping[str, Any], began: float, ended: float, error: str | None
    ) -> None:
        """The run's own span, in what asked for the run."""
        parent = _parent(run.traceparent)
        context = Context() if parent is None else _remote(parent)
        ids = (span_id(run.task_id), _trace_id(run.task_id))
        self._close(
            self._begun(_run_name(run), attributes, "internal", context, began, *ids), began, ended, error
        )

    @staticmethod
    def trace_of(task_id: str, traceparent: str | None, agent: str) -> RunTrace:
        """What the trace of a run follows from."""
        return RunTrace(task_id, traceparent, agent)

    def open_attempt(
        self, run: RunTrace, number: int, attributes: Mapping[str, Any], began: float
    ) -> OpenSpan:
        """The span of an attempt that this process executes; `began` is in epoch seconds."""
        return self.span(
            f"attempt {number}", attributes, "consumer", self.run(run), began, span_id(run.task_id, number)
        )

    def write_attempt(
        self,
        run: RunTrace,
        number: int,
        attributes: Mapping[str, Any],
        began: float,
        ended: float,
        error: str,
    ) -> None:
        """The span of an attempt whose process writes none."""
        self.write(
            f"attempt {number}", attributes, self.run(run), began, ended,
            error=error, span_id=span_id(run.task_id, number), kind="consumer",
        )  # fmt: skip

    def stored(self, context: Context | None = None) -> str | None:
        """The current span as a task keeps it: its traceparent, and its tracestate behind a space."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, context)
        text = " ".join(carrier.values())
        return (text if len(text) <= _LONGEST else carrier["traceparent"]) or None

    @staticmethod
    @contextmanager
    def inside(stored: str) -> Iterator[None]:
        """See `tracing.inside`."""
        parent = _parent(stored)
        token = contexts.attach(Context() if parent is None else _remote(parent))
        try:
            yield
        finally:
            contexts.detach(token)

    # -- the outside -----------------------------------------------------------------------------------------

    @staticmethod
    def extracted(headers: Mapping[str, str]) -> Context:
        """The context that a caller sent (OTEL_PROPAGATORS; W3C by default)."""
        return propagate.extract(headers, Context())

    @staticmethod
    def headers() -> dict[str, str]:
        """What carries the current span on."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    def recorded(self, run: RunTrace | None = None) -> str | None:
        """The id of the trace of a run, or without one of the current span; None where that trace is not recorded."""
        of = trace.get_current_span(None if run is None else self.run(run)).get_span_context()
        return trace.format_trace_id(of.trace_id) if of.is_valid and of.trace_flags.sampled else None

    @staticmethod
    def log_ids() -> Mapping[str, str]:
        """See `tracing.log_ids`."""
        of = trace.get_current_span().get_span_context()
        if not of.is_valid:
            return {}
        return {"trace_id": trace.format_trace_id(of.trace_id), "span_id": trace.format_span_id(of.span_id)}


class OpenSpan:
    """See `tracing.Span`."""

    __slots__ = ("_abandoned", "_context", "_span", "_token", "_waits")

    def __init__(self, span: trace.Span, context: Context | None) -> None:
        self._span = span
        self._context = context
        self._waits = self._abandoned = False

    def __enter__(self) -> OpenSpan:
        self._token = contexts.attach(trace.set_span_in_context(self._span, self._context))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        contexts.detach(self._token)
        if self._abandoned:
            return
        if isinstance(error, Suspension) or self._waits:
            self._span.set_attribute("runyard.outcome", "waits")
        elif isinstance(error, Cancelled | asyncio.CancelledError | GeneratorExit):
            self._span.set_attribute("runyard.outcome", "cancelled")
        elif error is not None:
            self.fail(error_type(error))
        self._span.end()

    def set(self, **attributes: Any) -> None:
        self._span.set_attributes(_named(attributes))

    def fail(self, error_type: str) -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR, error_type))

    def wait(self) -> None:
        self._waits = True

    def abandon(self) -> None:
        self._abandoned = True

    def event(self, name: str, at: float | None = None, **attributes: Any) -> None:
        self._span.add_event(name, _named(attributes), None if at is None else int(at * _NS))


def error_type(error: BaseException) -> str:
    """The code of one of our errors, or the name of an exception's class: never its message."""
    code = getattr(error, "code", None)
    if isinstance(error, AgentError | RunyardError) and isinstance(code, str) and code:
        return code
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def span_id(task_id: str, attempt: int | None = None) -> int:
    """The id of a run's span, or of one of its attempts'."""
    of = task_id if attempt is None else f"{task_id}/{attempt}"
    return int.from_bytes(blake2b(of.encode(), digest_size=8).digest()) or 1


def _trace_id(task_id: str) -> int:
    """Of a run that no span has asked for: its own id."""
    try:
        return UUID(task_id).int or 1
    except ValueError:
        return int.from_bytes(blake2b(task_id.encode(), digest_size=16).digest()) or 1


def _run_name(run: RunTrace) -> str:
    return f"invoke_agent {run.agent}"


def _parent(stored: str | None) -> SpanContext | None:
    if not stored:
        return None
    parent, _, state = stored.partition(" ")
    found = trace.get_current_span(_W3C.extract({"traceparent": parent, "tracestate": state}, Context()))
    of = found.get_span_context()
    return of if of.is_valid else None


def _remote(of: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(of), Context())


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}
