"""Relay: send the wake-ups that a crash, a dead Redis or a dead broker lost."""

from __future__ import annotations

from runyard_common.commit_hooks import Notifier
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import workers

#: A task pending for this long, in seconds, had no wake-up: in order it takes milliseconds.
OVERDUE = 2.0


class Relay:
    """Notifies for claimable tasks that no worker has looked at: a pending row is its own outbox.

    It also drains the table `outbox`, into which processes of earlier versions write a row a wake-up.
    """

    name = "relay"
    every = 1.0

    def __init__(self, store: Store, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier
        self._waiting = 0  # claimable tasks at the last look: a version that no worker has may wait for days

    def run_once(self, now: float | None = None) -> int:
        """Notify once for everything overdue; how many tasks of it are new since the last look."""
        with self._store.read() as conn:
            overdue = (self._store.db.now(conn) if now is None else now) - OVERDUE
            waiting = workers.unclaimed(conn, overdue)
            left = workers.outbox_rows(conn, overdue)
        if waiting or left:
            self._notifier.notify()
        if left:
            with self._store.begin() as tx:
                workers.delete_outbox_rows(tx, left)
        new, self._waiting = max(0, waiting - self._waiting), waiting
        return new
