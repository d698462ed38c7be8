"""Spans of wake-ups: from the commit that left runs to the workers until the message that wakes one is sent.

A message wakes for any number of runs, and is sent by a thread of its own, which knows none of them: what waits for it
is kept by the recorder. Where none is ever sent, as the broker is away, there is no span: workers look by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from runyard_common import tracing


@dataclass(frozen=True, slots=True)
class ReadyRun:
    """A run that a commit has made claimable, by which event, and when: in epoch seconds."""

    id: str
    traceparent: str | None
    agent_name: str
    event: str
    at: float


def note(ready: Iterable[ReadyRun]) -> None:
    """These wait for the next message to be sent; call it before that is asked for."""
    if (recorder := tracing.active()) is not None:
        recorder.ready.extend(ready)


def sent(by: str, system: str) -> None:
    """A message has been sent that wakes a worker: over what (``list`` or ``celery``), and through which system."""
    recorder = tracing.active()
    if recorder is None:
        return
    now = time.time()
    while recorder.ready:
        try:
            one = recorder.ready.popleft()
        except IndexError:  # another sender took it
            return
        attributes = {
            "messaging.operation.type": "send",
            "messaging.system": system,
            "runyard.task.id": one.id,
            "runyard.event": one.event,
            "runyard.wake_up.by": by,
        }
        run = recorder.trace_of(one.id, one.traceparent, one.agent_name)
        recorder.write("wake-up", attributes, recorder.run(run), one.at, now, kind="producer")
