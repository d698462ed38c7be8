"""Admit: let queued tasks through whose back-off is over or whose limit has a free slot."""

from __future__ import annotations

from runyard_common.database.transaction import Store
from runyard_common.runs.queries import limits, queued
from runyard_common.runs.service import admissions

#: Longest window of a start-rate limit, in seconds; older starts are forgotten.
LONGEST_WINDOW = 86_400.0
#: Limits looked at in one run; with more, a pass takes several.
AT_ONCE = 200


class Admit:
    """Usually the process that freed a slot admits the next task; this catches what a crash or a window left."""

    name = "admit"
    every = 1.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor = ""  # where the last pass over the limits ended

    def run_once(self, now: float | None = None) -> int:
        """Admit what is due; how many tasks."""
        with self._store.read() as conn:
            blockers = queued.blockers(conn, self._cursor, AT_ONCE)
        self._cursor = blockers[-1].stored if len(blockers) == AT_ONCE else ""
        if not blockers:
            return 0
        with self._store.begin() as tx:
            if now is not None:
                tx.now = now
            admitted = admissions.admit_due(tx)
        for by in blockers:
            with self._store.begin() as tx:
                if now is not None:
                    tx.now = now
                admitted += admissions.admit_next(tx, by)
        with self._store.begin() as tx:
            limits.prune_starts(tx, tx.now - LONGEST_WINDOW)
        return admitted
