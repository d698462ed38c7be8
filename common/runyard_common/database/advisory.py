"""Advisory locks: work on the same keys, one transaction after another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import text

from runyard_common.database.transaction import Tx


def lock(tx: Tx, keys: Iterable[str]) -> None:
    """Keep other transactions off these keys until this one ends (on SQLite the transaction itself does).

    Keys are locked in one order, so that no two transactions wait for each other.
    """
    if not tx.db.is_postgres:
        return
    numbers = sorted(
        {int.from_bytes(hashlib.blake2b(k.encode(), digest_size=8).digest(), signed=True) for k in keys}
    )
    if numbers:
        tx.conn.execute(_LOCK, {"numbers": numbers})
        tx.now = tx.db.now(tx.conn)  # what is written now happens after those that held the locks


_LOCK = text(
    "SELECT pg_advisory_xact_lock(n) FROM (SELECT n FROM unnest(CAST(:numbers AS bigint[])) AS n ORDER BY n) AS s"
)
