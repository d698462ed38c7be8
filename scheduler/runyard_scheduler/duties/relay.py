"""Relay: send the wake-ups that a crash or a dead broker lost."""

from __future__ import annotations

from runyard_common.commit_hooks import Notifier
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import workers

#: A wake-up this old, in seconds, was lost: in order it takes milliseconds.
OVERDUE = 2.0


class Relay:
    """Notifies for outbox rows without a wake-up, and for claimable tasks that no worker has looked at."""

    name = "relay"
    every = 1.0

    def __init__(self, store: Store, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier
        self._waiting = 0  # claimable tasks at the last look: a version that no worker has may wait for days

    def run_once(self, now: float | None = None) -> int:
        """Ring once for everything overdue; how many tasks of it are new since the last look."""
        with self._store.begin() as tx:
            at = tx.now if now is None else now
            missed = workers.overdue_wake_ups(tx, at - OVERDUE)
            workers.forget_wake_ups(tx, missed)
            waiting = workers.unclaimed(tx.conn, at - OVERDUE)
        if missed or waiting:
            self._notifier.notify()
        new, self._waiting = max(0, waiting - self._waiting), waiting
        return max(len(missed), new)
