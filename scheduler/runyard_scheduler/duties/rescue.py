"""Rescue: find workers whose lease ran out and hand their runs on."""

from __future__ import annotations

import time

import structlog

from runyard_common.database.transaction import Store
from runyard_common.metrics.points import POINTS
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.service import rescues

logger = structlog.get_logger("runyard.rescue")

#: A gap between two runs of this duty, in seconds, after which it cannot know what the database did meanwhile.
GAP = 5.0
#: How often it looks for runs whose worker has no row, in seconds.
OWNERLESS_EVERY = 5.0


class Rescue:
    """Declares silent workers lost and empties the lost ones, also those another scheduler left half done."""

    name = "rescue"
    every = 1.0

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen_at: float | None = None  # when the database answered last
        self._since: float | None = None  # since when it has answered without a gap; None: since ever
        self._ran = False
        self._ownerless_at = 0.0

    def run_once(self, now: float | None = None) -> int:
        """Hand on the runs of lost workers; how many."""
        watched = self._watched(time.monotonic())
        with self._store.begin() as tx:
            if now is not None:
                tx.now = now
            declared = rescues.declare_lost(tx, watched if now is None else None)
        for worker_id in declared:
            logger.warning("Worker lost: heartbeat expired", action="rescue", worker=worker_id)
        if declared and (note := POINTS.workers_lost) is not None:
            note(len(declared))
        with self._store.read() as conn:
            lost = workers.lost(conn)
        rescued = sum(self._empty(worker_id) for worker_id in lost) + self._ownerless(now)
        self._seen_at = time.monotonic()
        return rescued

    def _watched(self, at: float) -> float | None:
        """For how long the database has answered this scheduler without a gap, in seconds; None for always.

        A database that was away kept the workers from renewing their leases, which ran out on its clock all the
        same. So each worker gets one lease's time to be heard before it is declared lost. SQLite is there whenever a
        scheduler starts, but a full disk refuses its writes, those of the workers as well as this one.
        """
        failed = self._ran and self._seen_at is None
        unknown = self._seen_at is None or at - self._seen_at > GAP
        if failed or (self._store.db.is_postgres and unknown):
            self._since = at
        self._ran, self._seen_at = True, None  # until this run has come to its end
        return None if self._since is None else at - self._since

    def _empty(self, worker_id: str) -> int:
        rescued = 0
        while True:
            with self._store.begin() as tx:
                count = rescues.rescue(tx, worker_id)
            rescued += count
            if count == 0:
                return rescued

    def _ownerless(self, now: float | None) -> int:
        if now is None and time.monotonic() < self._ownerless_at:
            return 0
        self._ownerless_at = time.monotonic() + OWNERLESS_EVERY
        with self._store.read() as conn:
            if not tasks.ownerless(conn, 1):
                return 0
        with self._store.begin() as tx:
            count = rescues.rescue_ownerless(tx)
        if count:
            logger.warning("Runs whose worker has no row were handed on", action="rescue", count=count)
        return count
