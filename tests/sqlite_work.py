"""How much SQLite works for something, counted and not timed: the same on a busy machine and on an idle one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from runyard_common.database.engine import Database

_EVERY = 20


def steps(db: Database, work: Callable[[], object]) -> int:
    """Instructions of SQLite's machine, in twenties, that some work of this thread takes."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(step, _EVERY)

    event.listen(db.engine, "checkout", watch)
    try:
        work()
    finally:
        event.remove(db.engine, "checkout", watch)
    return count
