"""What follows a commit: the live stream gets its events, workers wake, runs are cancelled, limits let others in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from runyard_common.database.group_commit import own_transaction
from runyard_common.database.transaction import CommittedEvent, Tx
from runyard_common.metrics.points import POINTS
from runyard_common.runs.rules.blocked_by import BlockedBy, Blocker
from runyard_common.runs.service import run_spans
from runyard_common.runs.service.admissions import admit
from runyard_common.stream.wake_ups import Kind
from runyard_common.values.outages import Diagnosis


class Stream(Protocol):
    """The live stream (`runyard_common.stream.Live`)."""

    def publish(self, events: Sequence[CommittedEvent], /) -> None:
        """Send events to followers."""

    def token(self, task_id: str, attempt: int, data: dict[str, Any]) -> None:
        """Send a token delta to followers."""

    def cancel(self, worker_id: str, task_id: str) -> None:
        """Notify a worker that one of its runs was cancelled."""

    def wake(self, kind: Kind, otherwise: Callable[[], object]) -> None:
        """Wake some worker; call `otherwise` where that cannot be sent."""

    def check(self) -> Diagnosis | None:
        """What is wrong with it, or None."""

    def close(self) -> None:
        """Send what is queued, and end."""


class Notifier(Protocol):
    """What wakes workers by Celery's messages (`runyard_common.broker.notifier.BrokerNotifier`)."""

    def notify(self) -> None:
        """Wake some worker because work waits."""

    def notify_deliveries(self) -> None:
        """Wake some worker because callbacks are due."""

    def check(self) -> Diagnosis | None:
        """What is wrong with it, or None."""

    def close(self) -> None:
        """Send what was asked for, and end."""


@dataclass(frozen=True, slots=True)
class Local:
    """What a process itself does after its commits, beside what it sends to others. None of it may block."""

    #: Events for followers in this process.
    publish: Callable[[Sequence[CommittedEvent]], None] = lambda events: None
    #: Runs wait to be claimed.
    wake: Callable[[], None] = lambda: None
    #: Callbacks are due; whether this process makes them, so that no other has to be woken.
    deliver: Callable[[], bool] = lambda: False


class CommitHooks:
    """The `after_commit` of a process's `Store`. Never blocks and never fails: the commit is done."""

    def __init__(
        self,
        stream: Stream,
        notifier: Notifier,
        admit: Callable[[frozenset[BlockedBy]], object],
        local: Local = Local(),
    ) -> None:
        """`admit` queues the admission of what waits for these limits."""
        self._stream = stream
        self._notifier = notifier
        self._admit = admit
        self._local = local

    def __call__(self, tx: Tx) -> None:
        """Act on what `tx` has noted; first wake a worker, which takes longest to act."""
        if tx.woken:
            if tx.over:
                run_spans.note_ready(tx)  # before the message that it waits for
            self._stream.wake(Kind.RUNS, self._notifier.notify)
            self._local.wake()
        if tx.events:
            self._stream.publish(tx.events)
            self._local.publish(tx.events)
            note_events(tx)
        if tx.over:
            run_spans.write(tx.over)
        for worker_id, task_id in tx.cancelled:
            self._stream.cancel(worker_id, task_id)
        if tx.deliveries and not self._local.deliver():
            self._stream.wake(Kind.DELIVERIES, self._notifier.notify_deliveries)
        if tx.freed:
            self._admit(frozenset(tx.freed))


def note_events(tx: Tx) -> None:
    """Count what was committed, where this process counts."""
    if (note := POINTS.events) is not None:
        note(tx.events)


@own_transaction
def admit_freed(tx: Tx, commands: Sequence[frozenset[BlockedBy]]) -> list[int]:
    """Admit what waited for these, for several commits at once; count what runs of schedules came to."""
    freed: frozenset[BlockedBy] = frozenset().union(*commands)
    ended = {by.what for by in freed if by.kind is Blocker.SCHEDULE}
    if ended:
        # Loaded where a schedule has runs: a test of an agent has none, and is quicker to start without.
        from runyard_common.schedules.service import fires

        fires.settle(tx, ended)
    admitted = admit(tx, freed)
    return [admitted] * len(commands)
