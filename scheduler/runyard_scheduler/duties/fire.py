"""Fire: turn due times of schedules into runs, on the second, any number of schedulers sharing the work."""

from __future__ import annotations

import time

import structlog
from sqlalchemy.exc import OperationalError

from runyard_common import surfaces
from runyard_common.database.transaction import Store
from runyard_common.metrics.points import POINTS
from runyard_common.runs.service.runs import RunRules
from runyard_common.schedules.queries import schedules
from runyard_common.schedules.service.fires import BATCH, Done, fire

logger = structlog.get_logger("runyard.fire")

#: Transactions in one run; what is left is for the next.
MOST_BATCHES = 50
#: When to look again, in seconds, after all that was due was locked by others.
LOCKED_S = 0.1
#: How long a schedule that cannot be handled (a fault of ours, a damaged row) is backed off, in seconds.
BACKOFF_S = 60.0


class Fire:
    """Between two looks it sleeps until the next due time (`due_in`), if that comes sooner than its rhythm."""

    name = "fire"
    every = (
        0.25  # how late a schedule made by another process a moment before its time may be seen, in seconds
    )

    def __init__(self, store: Store, rules: RunRules, batch: int = BATCH) -> None:
        surfaces.registered()  # read at the start, not in the first transaction
        self._store = store
        self._rules = rules
        self._batch = batch
        self._backed_off: dict[str, float] = {}  # schedule -> when it is tried again, monotonic
        self.due_in: float | None = None  # seconds until the next due time; None: not known

    def run_once(self, now: float | None = None) -> int:
        """Fire what is due; how many runs were made."""
        made = 0
        self._backed_off = {id_: at for id_, at in self._backed_off.items() if at > time.monotonic()}
        for _ in range(MOST_BATCHES):
            self.due_in = self._look(now)
            if self.due_in is None or self.due_in > 0:
                break
            done = self._fire(now)
            made += done.made
            if done.claimed == 0:
                self.due_in = LOCKED_S  # by other schedulers, or by what follows an earlier commit
                break
        return made

    def _look(self, now: float | None) -> float | None:
        """Seconds until something is due: one probe of an index."""
        with self._store.read() as conn:
            wake_at = schedules.next_wake(conn, self._backed_off)
            if wake_at is None:
                return None
            return wake_at - (self._store.db.now(conn) if now is None else now)

    def _fire(self, now: float | None) -> Done:
        try:
            with self._store.begin() as tx:
                tx.now = tx.now if now is None else now
                done = fire(tx, self._rules, schedules.claim_due(tx, self._batch, self._backed_off))
            return _noted(done)
        except OperationalError:
            raise  # the database is away, or busy beyond its patience: the next run tries again
        except Exception:
            logger.exception("A batch of schedules failed; each is tried alone", action="fire")
        return self._one_by_one(now)

    def _one_by_one(self, now: float | None) -> Done:
        """A schedule that fails must not keep the others from firing: it is backed off."""
        with self._store.read() as conn:
            at = self._store.db.now(conn) if now is None else now
            waiting = schedules.due_ids(conn, at, self._batch, self._backed_off)
        claimed = made = 0
        for schedule_id in waiting:
            try:
                with self._store.begin() as tx:
                    tx.now = tx.now if now is None else now
                    done = fire(tx, self._rules, schedules.lock_free(tx, [schedule_id]))
            except OperationalError:
                raise
            except Exception:
                self._backed_off[schedule_id] = time.monotonic() + BACKOFF_S
                logger.exception("A schedule cannot be handled now", action="fire", schedule=schedule_id)
            else:
                claimed, made = claimed + done.claimed, made + _noted(done).made
        return Done(claimed, made)


def _noted(done: Done) -> Done:
    """Count what was committed, where this process counts."""
    if (note := POINTS.occurrence) is not None:
        for outcome, late_s in done.handled:
            note(outcome, late_s)
    return done
