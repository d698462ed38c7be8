"""The child process that asks one SQLite file one question: a job as JSON on standard input, the rows on its output.

SQLite computes inside the process that asks it, so its memory, its time and a file made to break it are the child's
alone. Run by its path with the standard library only: it starts in some 30 ms and has no secret of the worker's.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

_ALLOWED = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
#: Database options (sqlite3_db_config) that Python sets from 3.12 on: what a hostile file or statement could use.
_CONFIGURATION = {"DEFENSIVE": True, "ENABLE_FTS3_TOKENIZER": False, "TRUSTED_SCHEMA": False}
#: What the modules of full-text search ask by themselves.
_MODULES_ASK = frozenset({"data_version", "page_size"})
_STEPS_BETWEEN_LOOKS = 10_000
_BUSY_SECONDS = 2.0
_MOST_TEMPORARY_BYTES = 512 * 2**20


def main() -> None:
    """Read the job, answer it, end."""
    os.nice(10)  # a worker and its other runs come first
    job = json.load(sys.stdin.buffer)
    _confine(job)
    deadline = time.monotonic() + job["seconds"]
    try:
        answer = _answer(job, deadline)
    except MemoryError:
        answer = {"error": f"the query needs more than {job['memory'] // 2**20} MB of memory"}
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, TypeError) as error:
        late = time.monotonic() >= deadline
        answer = {"error": f"the query took longer than {job['seconds']:g} s" if late else str(error)}
    sys.stdout.write(json.dumps(answer))


def _confine(job: dict[str, Any]) -> None:
    """Bounds that the kernel keeps: memory, temporary files, time."""
    resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_TEMPORARY_BYTES, _MOST_TEMPORARY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, job["seconds"] + 1)


def _answer(job: dict[str, Any], deadline: float) -> dict[str, Any]:
    connection = _open(job, deadline)
    # Only one statement is ever executed, and the driver counts its parameters.
    cursor = connection.execute(job["sql"], job["parameters"])
    rows: list[list[Any]] = []
    left = job["characters"]
    for row in cursor:
        cells = [_cut(value, job["cell"]) for value in row]
        rows.append(cells)
        left -= sum(len(str(cell)) for cell in cells)
        if len(rows) > job["rows"] or left < 0:
            break  # the one too many shows that there are more
    return {"columns": [column[0] for column in cursor.description or ()], "rows": rows}


def _open(job: dict[str, Any], deadline: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{Path(job['path']).as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    # SQLite stores any bytes as a text.
    connection.text_factory = lambda data: data.decode(errors="replace")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, job["most_bytes"])
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    if hasattr(connection, "setconfig"):
        for name, value in _CONFIGURATION.items():
            connection.setconfig(getattr(sqlite3, f"SQLITE_DBCONFIG_{name}"), value)
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
    functions, pragmas = frozenset(job["functions"]), frozenset(job["pragmas"])

    def authorise(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """ATTACH would open other files, PRAGMA could lift what is set above, some functions reach outside."""
        if action == sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_OK if (second or "").lower() in functions else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA:
            read = (first or "").lower() in pragmas or (first in _MODULES_ASK and second is None)
            return sqlite3.SQLITE_OK if read else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
            return (
                sqlite3.SQLITE_OK
            )  # how a virtual table declares its columns; the file is open for reading only
        return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorise)
    return connection


def _cut(value: Any, longest: int) -> Any:
    """A cell in JSON form, no more of it than is shown; one character more shows that there was more."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value[:longest]).decode()}
    return value[: longest + 1] if isinstance(value, str) else value


if __name__ == "__main__":
    main()
