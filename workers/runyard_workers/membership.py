"""The row by which a worker process belongs to the fleet: how it enlists, begins to leave, and ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from runyard_common.agents.service import fleet
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import workers
from runyard_common.runs.rules.suspicion import Loss
from runyard_common.runs.service import rescues
from runyard_workers.isolation.watchdog import Blocked


class Membership:
    """Every method is a transaction: call it in a thread."""

    def __init__(
        self,
        store: Store,
        capacity: int,
        lease_seconds: float,
        agents: Sequence[str] | None,
        brings: Sequence[str] | None,
        resumes: Sequence[str] = (),
        release: str | None = None,
    ) -> None:
        """`agents`, `brings`, `resumes` and `release`: see `workers.enlist`."""
        self._store = store
        self._capacity = capacity
        self._lease_seconds = lease_seconds
        self._agents = agents
        self._brings = brings
        self._resumes = resumes
        self._release = release

    def enlist(self, worker_id: str, draining: bool = False) -> None:
        """Begin a life; the versions that this process brings are current from here on, unless newer ones live.

        `draining`: it was drained by an operator in the life before.
        """
        host, pid = socket.gethostname(), os.getpid()
        with self._store.begin() as tx:
            workers.enlist(
                tx, worker_id, host, pid, self._capacity, self._lease_seconds, self._agents, self._brings,
                self._resumes, draining, self._release,
            )  # fmt: skip
            fleet.settle(tx, (self._agents if self._brings is None else self._brings) or ())

    def drain(self, worker_id: str) -> None:
        """Begin to leave: runs that are submitted from here on take a version that another worker brings."""
        with self._store.begin() as tx:
            fleet.drain(tx, worker_id)

    def retire(self, worker_id: str) -> None:
        """End; what this worker still holds is handed on."""
        with self._store.begin() as tx:
            if not fleet.retire(tx, worker_id):
                # Runs that do not end, or a claim whose answer never came: others take them from here.
                fleet.mark_lost(tx, worker_id)
                rescues.rescue(tx, worker_id, Loss.MOVED)
                workers.retire(tx, worker_id)

    def hand_on_blocked(self, worker_id: str, found: Blocked) -> None:
        """The event loop is blocked: end, fail the run that blocks it, and hand on the others."""
        with self._store.begin() as tx:
            if fleet.mark_lost(tx, worker_id):
                rescues.leave_blocked(tx, worker_id, found.run, found.seconds, found.stack)
