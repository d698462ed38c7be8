"""What the api counts, for Prometheus. No organisation, agent or key is named."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_REQUESTS: Final = Counter(
    "runyard_http_requests_total", "Requests answered.", ("operation", "method", "status"), registry=REGISTRY
)
_SECONDS: Final = Histogram(
    "runyard_http_seconds",
    "Time until the answer began.",
    ("operation",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
ACCEPTED: Final = Counter("runyard_runs_accepted_total", "Runs stored by this process.", registry=REGISTRY)
STREAMS: Final = Gauge("runyard_streams_open", "Event streams being served.", registry=REGISTRY)
WAITERS: Final = Gauge("runyard_waiters_open", "Callers waiting for a run.", registry=REGISTRY)
CLOCK_OFFSET: Final = Gauge(
    "runyard_clock_offset_seconds",
    "By how much the clock of the api's host is ahead of the database's.",
    registry=REGISTRY,
)

_requests: dict[tuple[str, str, int], Counter] = {}
_seconds: dict[str, Histogram] = {}


def answered(operation: str, method: str, status: int, seconds: float) -> None:
    key = (operation, method, status)
    counter = _requests.get(key)
    if counter is None:
        counter = _requests[key] = _REQUESTS.labels(operation, method, str(status))
    counter.inc()
    histogram = _seconds.get(operation)
    if histogram is None:
        histogram = _seconds[operation] = _SECONDS.labels(operation)
    histogram.observe(seconds)
