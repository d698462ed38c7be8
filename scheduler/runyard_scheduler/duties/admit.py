"""Admit: let queued tasks through whose back-off is over or whose limit has a free slot."""

from __future__ import annotations

from runyard_common.database.transaction import Store
from runyard_common.runs.queries import limits, queued, waits
from runyard_common.runs.service import admissions

#: Longest window of a start-rate limit, in seconds; older starts are forgotten.
LONGEST_WINDOW = 86_400.0
#: Limits looked at in one run; with more, a pass takes several.
AT_ONCE = 200
#: Transactions in one run for what is due: thousands of sleepers may have one time.
MOST_BATCHES = 50


class Admit:
    """Usually the process that freed a slot admits the next task; this catches what a crash or a window left."""

    name = "admit"
    every = 1.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor = ""  # where the last pass over the limits ended
        self._place = ("", "")  # where the last look at runs that wait for children ended

    def run_once(self, now: float | None = None) -> int:
        """Admit what is due; how many tasks."""
        with self._store.read() as conn:
            blockers = queued.blockers(conn, self._cursor, AT_ONCE)
        self._cursor = blockers[-1].stored if len(blockers) == AT_ONCE else ""
        if not blockers:
            return 0
        admitted = self._due(now) + self._parents(now)
        for by in blockers:
            if by.kind in admissions.WOKEN:
                continue
            with self._store.begin() as tx:
                if now is not None:
                    tx.now = now
                admitted += admissions.admit_next(tx, by)
        with self._store.begin() as tx:
            limits.prune_starts(tx, tx.now - LONGEST_WINDOW)
        return admitted

    def _parents(self, now: float | None) -> int:
        """Admit runs whose children have ended in a process that did not live to see to it."""
        with self._store.read() as conn:
            ended, place = waits.ended_children(conn, self._place, AT_ONCE)
        self._place = place or ("", "")
        if not ended:
            return 0
        with self._store.begin() as tx:
            if now is not None:
                tx.now = now
            return admissions.admit_parents(tx, ended)

    def _due(self, now: float | None) -> int:
        """Admit runs whose time has come: their back-off is over, or what they sleep or wait until."""
        admitted = 0
        for _ in range(MOST_BATCHES):
            with self._store.begin() as tx:
                if now is not None:
                    tx.now = now
                due = queued.due(tx.conn, tx.now, AT_ONCE)
                admitted += admissions.admit_tasks(tx, due)
            if len(due) < AT_ONCE:
                break
        return admitted
