"""The heartbeat: extends this process's lease from a thread that agent code cannot block.

One row holds every run of the process, so a beat costs the same for one run as for a thousand. Each beat also
asks which runs the process still owns: what was stopped meanwhile is told to the engine, so that a stop bites
even when no message gets through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from common.store import tasks, workers
from common.store.transaction import Store

logger = structlog.get_logger("runyard.heartbeat")


class Heartbeat:
    """Beats every quarter of the lease, until stopped."""

    def __init__(
        self,
        store: Store,
        worker_id: str,
        lease_seconds: float,
        running: Callable[[], int],
        on_owned: Callable[[dict[str, int]], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`on_owned` hears which tasks this worker owns, and their attempts; `on_lost` that the lease is gone.

        Both are called on the heartbeat's thread.
        """
        self._store = store
        self._worker_id = worker_id
        self._lease = lease_seconds
        self._running = running
        self._on_owned = on_owned
        self._on_lost = on_lost
        self.draining = False
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
        while not self._stop.wait(self._lease / 4):
            try:
                if not self._beat():
                    self._on_lost()
                    return
            except Exception as error:  # noqa: BLE001 - a beat may fail, the thread may not
                # The lease may run out meanwhile; whoever finds it first, beat or rescue, decides.
                logger.warning(
                    "A heartbeat failed", action="heartbeat", worker=self._worker_id, error=str(error)[:200]
                )

    def _beat(self) -> bool:
        with self._store.begin(durable=False) as tx:
            held = workers.heartbeat(tx, self._worker_id, self._lease, self._running(), self.draining)
        if held:
            with self._store.read() as conn:
                owned = dict(tasks.owned(conn, self._worker_id))
            self._on_owned(owned)
        return held
