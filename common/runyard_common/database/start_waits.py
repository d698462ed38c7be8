"""A process that starts waits for its database: for one that is not there yet, and for one that goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from runyard_common.database import outages
from runyard_common.values import addresses

T = TypeVar("T")
log = structlog.get_logger("runyard.start")

#: The pause between two attempts, in seconds.
PAUSE_SECONDS = 1.0


async def once_there(step: Callable[[], Awaitable[T]], given_up: Callable[[], bool] = lambda: False) -> T:
    """What `step` gives, once the database has answered all of it: it begins again where the database goes away.

    A step whose commit was under way may have been done: its next attempt must find that or do no harm. Raises what
    the step raises for another reason, or after `given_up()`.
    """
    while True:
        try:
            return await step()
        except SQLAlchemyError as error:
            if not outages.is_away(error) or _has_no_tables(error) or given_up():
                raise
            reason = addresses.masked(str(getattr(error, "orig", error)))
            log.warning("The database does not answer; waiting", action="start", error=reason[:200])
        await asyncio.sleep(PAUSE_SECONDS)


def _has_no_tables(error: SQLAlchemyError) -> bool:
    """SQLite names it by the class of errors that a lost connection has elsewhere."""
    return "no such table" in str(error)
