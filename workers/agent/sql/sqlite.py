"""SQLite: a file opened read-only, with nothing else within reach, stopped when the time is up."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from workers.agent.sql.results import Caps, QueryFailed, Rows, take

#: What a statement may do besides reading: call functions, recurse.
_ALLOWED: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_STEPS_BETWEEN_LOOKS: Final = 10_000


def asker(path: Path) -> Callable[[str, Sequence[Any], Caps], Rows]:
    """Runs statements on the file."""

    def ask(sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
        deadline = time.monotonic() + caps.seconds
        try:
            with closing(_open(path, deadline)) as connection:
                # Only one statement is ever executed, and the driver counts its parameters.
                cursor = connection.execute(sql.replace("??", "?"), list(parameters))
                columns = [column[0] for column in cursor.description or ()]
                return take(columns, cursor, caps)
        except (sqlite3.Error, ValueError, OverflowError, TypeError) as error:
            late = time.monotonic() >= deadline
            said = f"the query took longer than {caps.seconds:g} s" if late else str(error)
            raise QueryFailed(said) from error

    return ask


def _open(path: Path, deadline: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)
    # SQLite stores any bytes as a text.
    connection.text_factory = lambda data: data.decode(errors="replace")
    connection.execute("PRAGMA query_only=ON")
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    connection.set_authorizer(_authorise)
    return connection


def _authorise(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """ATTACH would open other files, PRAGMA could lift what is set above, load_extension runs code."""
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY
