"""Where a subject finds its servers, how it is to run, and the first line of its handler. Standard library only."""

from __future__ import annotations

import functools
import os
import struct
import time

#: A database of its own on the PostgreSQL of the benchmark; empty: the subject's own SQLite.
DATABASE = os.environ.get("BENCH_DATABASE", "")
#: The same for what the load looks at: it passes no proxy that counts.
DATABASE_OF_LOAD = os.environ.get("BENCH_DATABASE_OF_LOAD", DATABASE)
#: A Valkey that was emptied for this subject.
REDIS = os.environ.get("BENCH_REDIS", "")
#: The port of the subject's api, where it has one.
PORT = int(os.environ.get("BENCH_PORT", "0"))
#: Runs at once in a worker process.
SLOTS = int(os.environ.get("BENCH_SLOTS", "100"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
#: Api processes behind one port, where the subject has some.
APIS = int(os.environ.get("BENCH_APIS", "1"))
#: How Celery runs tasks, and whether it stores what they return.
POOL = os.environ.get("BENCH_POOL", "threads")
RESULTS = os.environ.get("BENCH_RESULTS", "1") == "1"
MARK = struct.Struct("d")


def redis(number: int) -> str:
    """Another database of the Valkey."""
    return f"{REDIS.rpartition('/')[0]}/{number}"


def mark() -> None:
    """Report that a handler began: its wall clock goes into the named pipe that the subject's driver reads."""
    if "BENCH_MARKS" in os.environ:
        os.write(_pipe(), MARK.pack(time.time()))


@functools.cache
def _pipe() -> int:
    return os.open(os.environ["BENCH_MARKS"], os.O_WRONLY)
