"""The heartbeat: extends this process's lease from a thread that agent code cannot block.

One row holds every run of the process, so a beat costs the same for one run as for a thousand. Each beat also
asks which runs the process still owns, so that a cancellation ends a run even when no message gets through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from runyard_common.database.engine import Durability
from runyard_common.database.transaction import Store
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.queries.workers import Health
from runyard_common.runs.rules.tasks import Fence
from runyard_workers.isolation.lease import Lease

logger = structlog.get_logger("runyard.heartbeat")

#: Pause after a beat that failed, in seconds: a database that is back must hear from its workers at once.
AFTER_FAULT = 0.5


class Heartbeat:
    """Beats every quarter of the lease, until stopped."""

    def __init__(
        self,
        store: Store,
        worker_id: str,
        lease: Lease,
        health: Callable[[], Health],
        on_owned: Callable[[dict[str, Fence]], None],
        on_lost: Callable[[], None],
        on_read: Callable[[Connection], None] = lambda conn: None,
    ) -> None:
        """`on_owned` gets the tasks this worker owns, each with its claim; `on_lost` is called when the lease is gone;
        `on_read` may read what else it wants to know.

        All of them are called on the heartbeat's thread.
        """
        self._store = store
        self._worker_id = worker_id
        self._lease = lease
        self._health = health
        self._on_owned = on_owned
        self._on_lost = on_lost
        self._on_read = on_read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End the beats."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _loop(self) -> None:
        pause = self._lease.seconds / 4
        while not self._stop.wait(pause):
            pause = self._lease.seconds / 4
            try:
                if not self._beat():
                    self._on_lost()
                    return
            except Exception as error:  # noqa: BLE001 - a beat may fail, the thread may not
                # The lease may run out meanwhile; the first to notice, beat or rescue, decides.
                pause = min(pause, AFTER_FAULT)
                logger.warning(
                    "A heartbeat failed", action="heartbeat", worker=self._worker_id, error=str(error)[:200]
                )

    def _beat(self) -> bool:
        asked_at = self._lease.now()
        with self._store.begin(Durability.NONE) as tx:
            renewed = workers.heartbeat(tx, self._worker_id, self._lease.seconds, self._health())
        if renewed:
            self._lease.renewed(asked_at)
            with self._store.read() as conn:
                owned = tasks.owned(conn, self._worker_id)
                self._on_read(conn)
            self._on_owned(owned)
        return renewed
