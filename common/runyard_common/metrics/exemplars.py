"""The trace that a measurement belongs to, which OpenMetrics carries beside it as an exemplar."""

from __future__ import annotations

from runyard_common import tracing
from runyard_common.runs.rules.tasks import Task


def of(task: Task | None = None) -> dict[str, str] | None:
    """The labels of an exemplar: the trace of a run, or without one that of the current span; None where it is not
    recorded."""
    recorder = tracing.active()
    if recorder is None:
        return None
    run = None if task is None else recorder.trace_of(task.id, task.traceparent, task.agent_name)
    found = recorder.recorded(run)
    return None if found is None else {"trace_id": found}
