"""Patience with a database that is away: an attempt's reads and writes are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from runyard.errors import Cancelled

T = TypeVar("T")

logger = structlog.get_logger("runyard.attempt")

#: Waits, in seconds, between tries of a write that the database did not answer; the last is repeated. While the
#: database is away no other worker can claim the run, so there is no end to them but the attempt's own.
_PATIENCE = (0.1, 0.3, 1.0, 2.0)
AWAY = (OperationalError, InterfaceError, PoolTimeout, PendingRollbackError)


def is_away(error: BaseException) -> bool:
    """Whether a database error means that trying again later may help: it is away, full, or read-only for now."""
    cause = getattr(error, "orig", None)
    state, code = getattr(cause, "sqlstate", None), getattr(cause, "sqlite_errorcode", None)
    # Class 22 is bad data and 42 a bad statement, which some drivers raise as operational errors; so is SQLite's 1.
    refused = code == 1 or (isinstance(state, str) and state[:2] in ("22", "42"))
    return isinstance(error, AWAY) and not refused


async def patiently(call: Callable[[], Awaitable[T]], ended_by: Callable[[], str | None], task_id: str) -> T:
    """What `call` gives, tried again for as long as the database is away; `Cancelled` once the attempt must leave."""
    for wait in chain(_PATIENCE, repeat(_PATIENCE[-1])):
        try:
            return await call()
        except AWAY as away:
            if not is_away(away):
                raise
            why = ended_by()
            if why is not None:
                raise Cancelled(why) from away
            logger.warning("The database does not answer; trying again", task=task_id, seconds=wait)
            await asyncio.sleep(wait)
    raise AssertionError("the waits have no end")
