"""Where the code notes what it measures. Nothing is noted until a process fills this in (`counting.begin`).

The library of Prometheus takes as long to import as a quarter of a process's start, so nothing here needs it: a process
whose metrics are off, and the test kit of authors, never load it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runyard_common.database.transaction import CommittedEvent


class Points:
    """One attribute for each place that measures; None: it is not wanted. Times are seconds. None of them raises."""

    #: Events of tasks' logs that this process has committed.
    events: Callable[[Sequence[CommittedEvent]], None] | None = None
    #: Such events of a child process, as `passed_on` has made them.
    passed_on: Callable[[Any], None] | None = None
    #: A transaction of the group commit: how many commands it took, and how long it lasted.
    group_commit: Callable[[int, float], None] | None = None
    #: A run was claimed: its attempt, how long it was pending, and how long ago it was submitted.
    claimed: Callable[[Any, float, float], None] | None = None
    #: A claim came back: the slots that it asked for, and the runs that it got.
    claim: Callable[[int, int], None] | None = None
    #: An attempt is over here: its task, how it ended, and how long it took.
    attempt: Callable[[Any, str, float], None] | None = None
    #: This worker has lost its lease.
    lease_lost: Callable[[], None] | None = None
    #: An attempt at a delivery was recorded: whether it goes to an endpoint, what came of it, how long the call took.
    delivered: Callable[[bool, str, float | None], None] | None = None
    #: A due time of a schedule was handled: what came of it, and how late.
    occurrence: Callable[[str, float], None] | None = None
    #: A duty of the scheduler has run: its name, how long it took, whether it worked.
    duty: Callable[[str, float, bool], None] | None = None
    #: So many workers were declared lost.
    workers_lost: Callable[[int], None] | None = None


#: Those of this process.
POINTS = Points()
#: What is counted of an event's data, beside its type: a process that only passes events on leaves out the rest.
COUNTED_DATA = ("error", "loss", "model", "usage", "cost_micros")


def passed_on(committed: Sequence[CommittedEvent]) -> list[tuple[str, dict[str, Any]]]:
    """What a child process sends of its events to the one that counts them: type and data, without outputs."""
    return [
        (event.type, {name: event.data[name] for name in COUNTED_DATA if name in event.data})
        for event in committed
    ]
