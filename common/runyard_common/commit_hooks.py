"""What follows a commit: followers hear of it, the doorbell rings, owners are told to stop, limits let others in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from runyard_common.database.group_commit import GroupCommit, apart
from runyard_common.database.transaction import Happened, Tx
from runyard_common.runs.service.admissions import RESUME, admit
from runyard_common.schedules.queries.fires import BEHIND
from runyard_common.schedules.service import fires


class Listener(Protocol):
    """The live stream (`runyard_common.stream.Live`)."""

    def publish(self, happened: Sequence[Happened]) -> None:
        """Tell followers."""

    def stop(self, worker_id: str, task_id: str) -> None:
        """Tell a worker that a run of its was stopped."""


class Bell(Protocol):
    """The doorbell (`runyard_common.broker.doorbell.Doorbell`)."""

    def ring(self, outbox_id: str | None = None) -> None:
        """Tell workers that work waits."""

    def ring_deliveries(self) -> None:
        """Tell workers that callbacks are due."""


class Aftermath:
    """The `after_commit` of a process's `Store`. Never blocks and never fails: the commit stands."""

    def __init__(self, live: Listener, bell: Bell, on_wake: Callable[[], None] | None = None) -> None:
        self._live = live
        self._bell = bell
        self._on_wake = on_wake
        self.writer: GroupCommit | None = None  # set once the writer exists: it needs the store first

    def __call__(self, tx: Tx) -> None:
        """Act on what `tx` has noted."""
        if tx.happened:
            self._live.publish(tx.happened)
        for worker_id, task_id in tx.stopped:
            self._live.stop(worker_id, task_id)
        if tx.woken:
            self._bell.ring(tx.outbox_id)
            if self._on_wake is not None:
                self._on_wake()
        if tx.promised:
            self._bell.ring_deliveries()
        if tx.freed and self.writer is not None:
            self.writer.submit(admit_freed, frozenset(tx.freed))


@apart
def admit_freed(tx: Tx, commands: Sequence[frozenset[str]]) -> list[int]:
    """Admit what the freed limits held, for several commits at once; count what runs of schedules came to."""
    keys = frozenset().union(*commands)
    ended = {key.removeprefix(BEHIND) for key in keys if key.startswith(BEHIND)}
    if ended:
        fires.settle(tx, ended)
    admitted = admit(tx, keys)
    return [admitted] * len(commands)


__all__ = ["RESUME", "Aftermath", "Bell", "Listener", "admit_freed"]
