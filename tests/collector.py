"""A collector of traces over OTLP/HTTP, as a test may run one: it keeps the spans and can show them as a tree."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class Received:
    """A span as it came; times in nanoseconds."""

    name: str
    trace: str
    id: str
    parent: str
    service: str
    began: int
    ended: int
    failed: bool
    attributes: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()


class Collector:
    """Use as a context manager; `env` are the settings that send traces to it."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    collector._read(body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def env(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def until(self, found: Callable[[list[Received]], bool], seconds: float = 60.0) -> list[Received]:
        """Wait until what has come satisfies this; all of it."""
        end = time.monotonic() + seconds
        with self._changed:
            while not found(self.spans):
                left = end - time.monotonic()
                assert left > 0, f"not yet after {seconds} s:\n{tree(self.spans)}"
                self._changed.wait(left)
            return list(self.spans)

    def _read(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        found = []
        for resource in request.resource_spans:
            service = {one.key: _value(one.value) for one in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                found += [
                    Received(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        service,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == 2,
                        {one.key: _value(one.value) for one in span.attributes},
                        tuple(event.name for event in span.events),
                    )
                    for span in scope.spans
                ]
        with self._changed:
            self.spans += found
            self._changed.notify_all()


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, kind) if kind else None


def missing_parents(spans: list[Received]) -> list[str]:
    """Names of spans whose parent has not come."""
    known = {span.id for span in spans}
    return [span.name for span in spans if span.parent and span.parent not in known]


def tree(spans: list[Received]) -> str:
    """The spans as an indented tree, children in order of beginning."""
    known = {span.id for span in spans}
    lines: list[str] = []

    def show(span: Received, depth: int) -> None:
        error = f"  ! {span.attributes.get('error.type')}" if span.failed else ""
        ms = (span.ended - span.began) / 1e6
        lines.append(f"{'  ' * depth}{span.name}  [{span.service}] {ms:.0f} ms{error}")
        for child in sorted((one for one in spans if one.parent == span.id), key=lambda one: one.began):
            show(child, depth + 1)

    for root in sorted((one for one in spans if one.parent not in known), key=lambda one: one.began):
        show(root, 0)
    return "\n".join(lines)
