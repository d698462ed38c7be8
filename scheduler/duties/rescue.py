"""Rescue: find workers whose lease ran out and hand their runs on."""

from __future__ import annotations

import structlog

from common.services import rescues
from common.store import workers
from common.store.transaction import Store

logger = structlog.get_logger("runyard.rescue")


class Rescue:
    """Declares silent workers lost and empties the lost ones, also those another scheduler left half done."""

    name = "rescue"
    every = 1.0

    def __init__(self, store: Store) -> None:
        self._store = store

    def run_once(self, now: float | None = None) -> int:
        """Hand on the runs of lost workers; how many."""
        with self._store.begin() as tx:
            if now is not None:
                tx.now = now
            for worker_id in rescues.declare_lost(tx):
                logger.warning("A worker fell silent", action="rescue", worker=worker_id)
        with self._store.read() as conn:
            lost = workers.lost(conn)
        return sum(self._empty(worker_id) for worker_id in lost)

    def _empty(self, worker_id: str) -> int:
        rescued = 0
        while True:
            with self._store.begin() as tx:
                count = rescues.rescue(tx, worker_id)
            rescued += count
            if count == 0:
                return rescued
