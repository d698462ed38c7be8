"""Which errors mean that the database or a disk is away or full, and not that the code is wrong."""

from __future__ import annotations

import errno
from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: PostgreSQL after a failover: the old primary accepts no writes, or ended an idle transaction.
_MOVED: Final = frozenset({"25006", "25P03"})
_PG_FULL: Final = frozenset({"53100"})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: How SQLite words a disk without room; a bare "disk I/O error" is what a quota looks like to it.
_SQLITE_FULL: Final = ("database or disk is full", "disk I/O error")


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be used now, through no fault of the statement."""
    # The last: a connection that was lost within a transaction was used once more.
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout | PendingRollbackError):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or sqlstate(error) in _MOVED)


def moved(error: BaseException | None) -> bool:
    """Whether this driver error comes from a server that is no primary any more: its connections are of no use."""
    return getattr(error, "sqlstate", None) in _MOVED


def is_full(error: BaseException) -> bool:
    """Whether a disk has no room: the database's, or one that files are written to."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    if not isinstance(error, OperationalError):
        return False
    return sqlstate(error) in _PG_FULL or any(text in str(error.orig) for text in _SQLITE_FULL)


def sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's code of the error; None on SQLite and for lost connections."""
    return getattr(error.orig, "sqlstate", None)
