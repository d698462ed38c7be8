"""Advisory locks: work on the same keys, one transaction after another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import text

from runyard_common.database.prepared import PreparedStatement
from runyard_common.database.transaction import Tx


def lock(tx: Tx, keys: Iterable[str]) -> None:
    """Keep other transactions off these keys until this one ends (on SQLite the transaction itself does).

    Keys are locked in one order, so that no two transactions wait for each other.
    """
    if not tx.db.is_postgres:
        return
    if numbers := _numbers(keys):
        tx.conn.execute(_LOCK, {"numbers": numbers})
        tx.now = tx.db.now(tx.conn)  # what is written now happens after those that held the locks


def share(tx: Tx, keys: Iterable[str]) -> None:
    """Keep transactions that `lock` these keys off them until this one ends; others may share them meanwhile.

    No answer is waited for: what later statements of this transaction see, they see with the lock.
    """
    if tx.db.is_postgres and (numbers := _numbers(keys)):
        _SHARE.send(tx.conn, {"numbers": numbers})


def _numbers(keys: Iterable[str]) -> list[int]:
    return sorted(
        {int.from_bytes(hashlib.blake2b(k.encode(), digest_size=8).digest(), signed=True) for k in keys}
    )


_IN_ORDER = "(SELECT n FROM unnest(CAST(:numbers AS bigint[])) AS n ORDER BY n) AS s"
_LOCK = text(f"SELECT pg_advisory_xact_lock(n) FROM {_IN_ORDER}")  # noqa: S608 - all ours
_SHARE = PreparedStatement(
    lambda postgres: text(f"SELECT pg_advisory_xact_lock_shared(n) FROM {_IN_ORDER}")  # noqa: S608
)
