"""SQLite: a file opened read-only by a child process, with nothing else within reach, within bounds of its own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runyard_common.spawning import started
from runyard_workers.agent.sql import functions
from runyard_workers.agent.sql.lexer import SQLITE, tokens
from runyard_workers.agent.sql.results import Caps, QueryFailed, Rows, read_rows
from runyard_workers.agent.sql.statements import judged

_PROGRAM: Final = Path(__file__).with_name("sqlite_child.py")
#: Memory of the child in bytes, Python's own included.
MEMORY_BYTES: Final = 128 * 2**20
_KILL_AFTER_SECONDS: Final = 2.0  # beyond the limit: the child's own clocks ring before
_MOST_ANSWER_BYTES: Final = 16 * 2**20
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
#: Queries of one worker at a time; further ones wait.
_slots: Final = threading.BoundedSemaphore(16)


def ask(path: Path, sql: str, parameters: Sequence[Any], caps: Caps) -> Rows:
    """Run a statement on the file. Blocks for as long as it takes. Raises `QueryFailed`."""
    judged(sql, SQLITE)
    job = {
        "path": str(path),
        "sql": "".join("?" if token.kind == "literal" else token.text for token in tokens(sql, SQLITE)),
        "parameters": list(parameters),
        "rows": caps.rows,
        "characters": caps.characters,
        "cell": caps.cell,
        "seconds": caps.seconds,
        "most_bytes": caps.bytes,
        "memory": MEMORY_BYTES,
        "functions": sorted(functions.SQLITE),
        "pragmas": sorted(functions.SQLITE_PRAGMAS),
    }
    with _slots:
        answer = _answered(json.dumps(job).encode(), caps)
    if "error" in answer:
        raise QueryFailed(answer["error"])
    return read_rows(answer["columns"], ([_value(cell) for cell in row] for row in answer["rows"]), caps)


def _answered(job: bytes, caps: Caps) -> dict[str, Any]:
    child = started(
        [sys.executable, "-I", "-S", str(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _INHERITED if name in os.environ},
    )
    watchdog = threading.Timer(caps.seconds + _KILL_AFTER_SECONDS, child.kill)
    watchdog.daemon = True
    watchdog.start()
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with child.stdin as stdin:
            stdin.write(job)
        text = child.stdout.read(_MOST_ANSWER_BYTES)
        answer = json.loads(text)
    except (OSError, ValueError, RecursionError):
        raise QueryFailed(_death(child, caps)) from None
    finally:
        watchdog.cancel()
        child.kill()
        child.stdout.close()
        child.wait()
    assert isinstance(answer, dict)
    return answer


def _death(child: subprocess.Popen[bytes], caps: Caps) -> str:
    """What the end of the child means for the query."""
    try:
        status = child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        status = None
    if status is not None and status in (-9, -14):
        return f"the query took longer than {caps.seconds:g} s"
    return f"the query needs more than {MEMORY_BYTES // 2**20} MB of memory, or the file is damaged"


def _value(cell: Any) -> Any:
    return base64.b64decode(cell["base64"]) if isinstance(cell, dict) else cell
