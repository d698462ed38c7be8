"""Expire: time to live, deadlines, and answers that never came."""

from __future__ import annotations

from runyard_common.database.transaction import Store
from runyard_common.human_tasks.service import answers
from runyard_common.runs.service import cancellations


class Expire:
    """Ends what ran out of time, each kind in a transaction of its own."""

    name = "expire"
    every = 1.0

    def __init__(self, store: Store) -> None:
        self._store = store

    def run_once(self, now: float | None = None) -> int:
        """Expire what is due; how many tasks and questions."""
        done = 0
        for expire in (cancellations.expire_unstarted, cancellations.expire_deadlines, answers.expire):
            with self._store.begin() as tx:
                if now is not None:
                    tx.now = now
                done += expire(tx)
        return done
