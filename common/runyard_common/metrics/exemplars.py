"""The trace that a measurement belongs to, which OpenMetrics carries beside it as an exemplar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: The id of the trace of a task, or without one of what this thread is at; None where nothing is traced. Tracing puts
#: its own function here when it is turned on.
trace_id: Callable[[Any], str | None] = lambda task: None  # noqa: E731


def of(task: Any = None) -> dict[str, str] | None:
    """The labels of an exemplar, or None."""
    found = trace_id(task)
    return None if found is None else {"trace_id": found}
