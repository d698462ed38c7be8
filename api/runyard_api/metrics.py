"""What the api counts of requests, in the families that every process shares (`runyard_common.metrics.families`)."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

from runyard_common.metrics import exemplars, families

ACCEPTED: Final = families.ACCEPTED
STREAMS: Final = families.STREAMS
WAITERS: Final = families.WAITERS
CLOCK_OFFSET: Final = families.CLOCK_OFFSET

#: Methods with series of their own: a caller may send any word.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_requests: dict[tuple[str, str, int], Counter] = {}
_seconds: dict[str, Histogram] = {}


def answered(operation: str, method: str, status: int, seconds: float) -> None:
    key = (operation, method, status)
    counter = _requests.get(key)
    if counter is None:
        method = method if method in _METHODS else "other"
        counter = families.REQUESTS.labels(operation, method, str(status))
        if method != "other":
            _requests[key] = counter
    counter.inc()
    histogram = _seconds.get(operation)
    if histogram is None:
        histogram = _seconds[operation] = families.HTTP_SECONDS.labels(operation)
    histogram.observe(seconds, exemplars.of())
