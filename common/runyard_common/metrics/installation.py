"""What there is in the whole installation: the queue, the workers, what is overdue. It is read from the database.

Every api and every scheduler shows the same, so ask for `max(…)` of it, never for a sum.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from runyard_common.database.transaction import Store
from runyard_common.runs.queries import queued
from runyard_common.runs.service import queues
from runyard_common.schedules.queries import schedules
from runyard_common.webhooks.queries import delivery_queue

log = structlog.get_logger("runyard.metrics")

#: An answer counts for so many seconds, and after one that took long for so many times its own length.
FRESH: Final = 0.5
REST: Final = 25

#: The gauges without labels, by name: what each is.
PLAIN: Final = {
    "waiting": "Runs that are pending: nothing but a free slot keeps them.",
    "running": "Runs that a worker has.",
    "queued": "Runs that a limit keeps, a back-off, or what they wait for.",
    "waiting_for_input": "Runs that wait for an answer.",
    "awaiting_review": "Runs that wait for a decision.",
    "oldest_waiting_s": "How long the oldest pending run has waited, in seconds.",
    "workers": "Live workers.",
    "capacity": "Slots of live workers that claim.",
    "wanted_workers": "Workers that the work there is would fill: the signal for autoscaling.",
    "without_worker": "Pending runs whose agent no live worker has.",
    "loop_lag_s": "How late the event loop is of the worker whose loop is the latest, in seconds.",
    "threads_held": "Threads of workers that runs have left busy.",
    "deliveries_overdue_seconds": "For how long the delivery that is overdue the longest has been, in seconds.",
    "schedules_overdue_seconds": "For how long the schedule that is overdue the longest has been, in seconds.",
}
#: Those by what keeps runs: `worker` is a free slot, a `limit_…` the kind of a limit.
BY: Final = {
    "queue_runs": "Runs that do not run, by what they wait for.",
    "queue_oldest_seconds": "How long the oldest of them has waited for it, in seconds.",
}
PREFIX: Final = "runyard_"


@dataclass(frozen=True, slots=True)
class Found:
    """What was read: values of the gauges in `PLAIN`, and runs and the age of the oldest by what keeps them."""

    plain: dict[str, float]
    kept: dict[str, tuple[int, float]]


def look(conn: Connection, now: float, per_worker: int) -> Found:
    """Read it. `now` is in epoch seconds, `per_worker` how many runs a worker is for."""
    backlog = queues.backlog(conn, now, per_worker)
    kept = {by: (runs, max(0.0, now - since)) for by, runs, since in queued.kept(conn)}
    kept["worker"] = (backlog.to_json()["waiting"], backlog.oldest_s)
    due = min((head.next_at for head in delivery_queue.heads(conn)), default=now)
    wake_at = schedules.next_wake(conn)
    overdue = {
        "deliveries_overdue_seconds": max(0.0, now - due),
        "schedules_overdue_seconds": max(0.0, now - wake_at) if wake_at is not None else 0.0,
    }
    return Found(backlog.to_json() | overdue, dict.fromkeys(queued.KEEPS, (0, 0.0)) | kept)


class Installation(Collector):
    """Reads at a scrape, unless it has just done so. Nothing is shown while the database does not answer."""

    def __init__(self, store: Store, per_worker: int) -> None:
        self._store = store
        self._per_worker = per_worker
        self._lock = threading.Lock()
        self._found: Found | None = None
        self._until = 0.0

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names, for a registry."""
        return described()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The values. Blocking."""
        with self._lock:
            if self.due:
                self._look()
            found = self._found
        return shown(found) if found is not None else described()

    @property
    def due(self) -> bool:
        """Whether the last answer counts no more."""
        return time.monotonic() >= self._until

    def read(self, conn: Connection) -> tuple[Found, float]:
        """An answer, and how long it took, in seconds: to be given to `keep`."""
        began = time.monotonic()
        found = look(conn, self._store.db.now(conn), self._per_worker)
        return found, time.monotonic() - began

    def keep(self, answer: tuple[Found, float]) -> None:
        """Show this answer for a while."""
        self._found, took = answer
        self._until = time.monotonic() + max(FRESH, REST * took)

    def _look(self) -> None:
        try:
            with self._store.read() as conn:
                self.keep(self.read(conn))
        except Exception as error:  # noqa: BLE001 - the others are shown all the same
            log.warning(
                "The queue cannot be read for the metrics.", action="metrics", reason=str(error)[:200]
            )
            self._found = None


def described() -> Iterator[GaugeMetricFamily]:
    """Every family, without values."""
    for name, text in PLAIN.items():
        yield GaugeMetricFamily(PREFIX + name, text)
    for name, text in BY.items():
        yield GaugeMetricFamily(PREFIX + name, text, labels=["by"])


def shown(found: Found) -> Iterator[GaugeMetricFamily]:
    """The families with what was found."""
    for name, text in PLAIN.items():
        yield GaugeMetricFamily(PREFIX + name, text, found.plain[name])
    for place, (name, text) in enumerate(BY.items()):
        family = GaugeMetricFamily(PREFIX + name, text, labels=["by"])
        for by, values in found.kept.items():
            family.add_metric([by], values[place])
        yield family
