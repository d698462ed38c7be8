"""Sweep: delete stored contents that no task or document has, left by a crash or an upload that was given up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from runyard_common.database.transaction import Store
from runyard_common.files import FileStore, StoredFile
from runyard_common.runs.queries import prune

#: Contents looked at in one run, the pause between runs of a round, and between rounds (seconds).
BATCH: Final = 500
BREATH: Final = 1.0
ROUND: Final = 6 * 3600.0
#: Contents stored or attached again this lately are left alone, in seconds.
FRESH: Final = 24 * 3600.0


class Sweep:
    """Goes round the whole store, a few hundred contents at a time."""

    name = "sweep"
    every = ROUND

    def __init__(self, store: Store, files: FileStore) -> None:
        self._store = store
        self._files = files
        self._walk: Iterator[StoredFile] | None = None
        self.due_in: float | None = None

    def run_once(self, now: float | None = None) -> int:
        """Look at a batch of contents; how many were deleted."""
        at = datetime.now(UTC).timestamp() if now is None else now
        fresh = datetime.fromtimestamp(at - FRESH, UTC)
        if self._walk is None:
            self._walk = self._files.walk()
        seen = list(islice(self._walk, BATCH))
        old = {stored.sha256 for stored in seen if not stored.renewed_since(fresh)}
        with self._store.read() as conn:
            unused = prune.unreferred(conn, old)
        deleted = sum(self._files.delete(sha256, unless_renewed_since=fresh) for sha256 in unused)
        if len(seen) == BATCH:
            self.due_in = BREATH
        else:
            self._walk, self.due_in = None, ROUND
        return deleted
