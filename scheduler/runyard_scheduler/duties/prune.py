"""Prune: delete what has been kept long enough, in small transactions with pauses between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from runyard_common.database.engine import Durability
from runyard_common.database.transaction import Store, Tx
from runyard_common.files import FileStore
from runyard_common.human_tasks import queries as questions
from runyard_common.identity.queries import idempotency, prune_access
from runyard_common.identity.rules.retention import AUDIT_DAYS, DAY_S, Retention
from runyard_common.runs.queries import limits, prune, queue_places
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service.limits import release_leaked
from runyard_common.schedules.service import fires
from runyard_scheduler.duties.admit import LONGEST_WINDOW

#: Tasks deleted in one transaction: few enough that who waits for it does not notice.
BATCH: Final = 100
#: Conversations in one transaction; each may have thousands of lines.
SESSIONS: Final = 10
#: Organisations looked at in one run.
ORGANISATIONS: Final = 20
#: Rest between two rounds over everything, in seconds. While there is more to do it rests as long as it worked.
ROUND: Final = 60.0
BREATH: Final = 0.02
#: Content stored or attached again this lately may be about to be attached to a run, in seconds.
FRESH: Final = 3600.0


class Prune:
    """One run looks at a few organisations; it stays with one as long as that has something to delete."""

    name = "prune"
    every = ROUND

    def __init__(
        self,
        store: Store,
        files: FileStore,
        retention_days: float,
        batch: int = BATCH,
        audit_days: float = AUDIT_DAYS,
    ) -> None:
        """`retention_days` for what has ended, `audit_days` for the audit log and the keys it names."""
        self._store = store
        self._audit = audit_days * DAY_S
        self._files = files
        self._days = retention_days
        self._batch = batch
        self._cursor = ""  # the last organisation that had nothing left
        self._places: dict[tuple[str, str], prune.Place] = {}  # by kind and organisation
        self.due_in: float | None = None

    def run_once(self, now: float | None = None) -> int:
        """Delete up to a few batches; how many tasks, conversations and other things were deleted."""
        started = time.monotonic()
        deleted, finished = self._some(now)
        self.due_in = ROUND if finished else max(BREATH, time.monotonic() - started)
        return deleted

    def _some(self, now: float | None) -> tuple[int, bool]:
        """What was deleted, and whether the round is over."""
        for _ in range(ORGANISATIONS):
            with self._store.read() as conn:
                org_id = prune.next_organisation(conn, self._cursor)
            if org_id is None:
                return self._end_round(now)
            deleted = self._organisation(org_id, now)
            if deleted:
                return deleted, False
            self._cursor = org_id
        return 0, False

    def _organisation(self, org_id: str, now: float | None) -> int:
        """One batch of each kind of one organisation. What there is to do is looked up without writing."""
        work: list[Callable[[Tx], int]] = []
        with self._store.read() as conn:
            kept = Retention.of(prune.settings_of(conn, org_id), self._days)
            at = self._store.db.now(conn) if now is None else now
            old = at - self._days * DAY_S
            due = [
                (status, at - seconds)
                for status, seconds in kept.by_status.items()
                if seconds is not None and prune.any_task(conn, org_id, status, at - seconds)
            ]
            idle = None if kept.sessions is None else at - kept.sessions
            if idle is not None and (
                sessions := self._looked(prune.idle_sessions, conn, org_id, idle, SESSIONS)
            ):
                work.append(lambda tx: prune.remove_sessions(tx, sessions, idle))
            if deliveries := self._looked(prune.orphan_deliveries, conn, org_id, old, self._batch):
                work.append(lambda tx: prune.remove_deliveries(tx, deliveries))
            spent = None if kept.usage is None else at - kept.usage
            if spent is not None and prune.any_turn(conn, org_id, spent):
                work.append(lambda tx: prune.remove_turns(tx, org_id, spent, self._batch))
            noted = at - self._audit
            if prune_access.any_entry(conn, org_id, noted):
                work.append(lambda tx: prune_access.remove_entries(tx, org_id, noted, self._batch))
            if prune_access.any_key(conn, org_id, noted):
                work.append(lambda tx: prune_access.remove_keys(tx, org_id, noted, self._batch))
        deleted = sum(self._tasks(org_id, status, before) for status, before in due)
        return deleted + sum(self._transact(now, one) for one in work)

    def _looked(
        self, look: Callable[..., prune.Look], conn: Connection, org_id: str, before: float, limit: int
    ) -> list[str]:
        """What may go among the old rows that come next, from the first again once all were looked through."""
        key = (look.__name__, org_id)
        found = look(conn, org_id, before, self._places.get(key, prune.START), limit)
        if found.place == prune.START:
            self._places.pop(key, None)
        else:
            self._places[key] = found.place
        return found.ids

    def _tasks(self, org_id: str, status: Status, before: float) -> int:
        with self._store.begin(Durability.NONE) as tx:
            chosen = prune.choose(tx, org_id, status, before, self._batch)
            if chosen.schedule_ids:
                fires.settle(
                    tx, chosen.schedule_ids
                )  # a run's end counts for its schedule before it is forgotten
            hashes = prune.remove_tasks(tx, chosen.task_ids)
        if hashes:
            self._forget_files(hashes)
        return len(chosen.task_ids)

    def _forget_files(self, hashes: set[str]) -> None:
        """Delete contents that nothing refers to any more. What a crash leaves here, the sweep finds."""
        with self._store.read() as conn:
            unused = prune.unreferred(conn, hashes)
        fresh = datetime.fromtimestamp(datetime.now(UTC).timestamp() - FRESH, UTC)
        for sha256 in unused:
            self._files.delete(sha256, unless_renewed_since=fresh)

    def _end_round(self, now: float | None) -> tuple[int, bool]:
        """What belongs to no organisation in particular; then the next round, after a rest."""
        kinds: tuple[Callable[[Tx], int], ...] = (
            lambda tx: prune.remove_idle_fires(tx, tx.now - self._days * DAY_S, self._batch),
            lambda tx: prune.remove_schedules(tx, tx.now - self._days * DAY_S, self._batch),
            lambda tx: idempotency.prune(tx, self._batch),
            questions.prune_links,
            lambda tx: prune_access.remove_sign_ins(tx, self._batch),
            lambda tx: prune_access.remove_invitations(tx, self._batch),
            lambda tx: limits.prune_starts(tx, tx.now - LONGEST_WINDOW),
            lambda tx: queue_places.prune(tx, self._batch),
            lambda tx: prune.remove_events(tx, self._batch),
            lambda tx: release_leaked(tx, self._batch),
        )
        deleted = [self._transact(now, kind) for kind in kinds]
        finished = max(deleted) < self._batch
        if finished:
            self._cursor = ""
        return sum(deleted), finished

    def _transact(self, now: float | None, work: Callable[[Tx], int]) -> int:
        with self._store.begin(Durability.NONE) as tx:
            tx.now = tx.now if now is None else now
            return work(tx)
