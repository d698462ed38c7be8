"""Deliver: notify of due deliveries that no deliverer has claimed, end those whose receiver is unreachable."""

from __future__ import annotations

from runyard_common.commit_hooks import Notifier
from runyard_common.database.transaction import Store
from runyard_common.webhooks.queries import delivery_queue
from runyard_common.webhooks.service.deliveries import expire

#: A delivery due for this long, in seconds, had no wake-up: in order it takes milliseconds.
OVERDUE = 3.0


class Deliver:
    """A backstop: deliverers are notified of new deliveries, and wait for retries themselves."""

    name = "deliver"
    every = 2.0

    def __init__(self, store: Store, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier
        self._cursor = ""

    def run_once(self, now: float | None = None) -> int:
        """Ring if something is overdue; how many deliveries it gave up."""
        with self._store.begin() as tx:
            if now is not None:
                tx.now = now
            heads = delivery_queue.heads(tx.conn, self._cursor)
            self._cursor = heads[-1].receiver if len(heads) == delivery_queue.RECEIVERS else ""
            overdue = [head for head in heads if head.next_at < tx.now - OVERDUE]
            ended = expire(tx, overdue)
        if overdue:
            self._notifier.notify_deliveries()
        return ended
