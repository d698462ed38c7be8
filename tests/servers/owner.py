"""The process that owns one test server: it starts it, prints its URL, and ends it with the test session."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

from tests.servers.mariadb import MariaDB
from tests.servers.missing import ServerMissing
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.valkey import RedisServer, ValkeyServer

_LONGEST_START = 180.0


class Server(Protocol):
    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


KINDS: dict[str, type[Server]] = {
    "postgres": Postgres,
    "valkey": ValkeyServer,
    "redis": RedisServer,
    "rabbitmq": RabbitMQ,
    "mariadb": MariaDB,
}


def ensure(kind: str, folder: Path, session: int) -> str:
    """URL of the session's server of this `kind`, started by whichever process asks first.

    `folder` is shared by all processes of the test session, `session` the pid that ends it.
    """
    with _locked(folder / f"{kind}.lock"):
        note = folder / f"{kind}.json"
        if not note.exists():
            note.write_text(_start_owner(kind, folder, session))
        started = json.loads(note.read_text())
    if "missing" in started:
        raise ServerMissing(started["missing"])
    return str(started["url"])


def stop_all(folder: Path) -> None:
    """End every server of this session and wait until it is gone."""
    owners = []
    for note in [note for note in folder.glob("*.json") if note.stem in KINDS]:
        if pid := json.loads(note.read_text()).get("owner"):
            owners.append(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        note.unlink()
    for pid in owners:
        _wait_for_end(pid, 30)


def _start_owner(kind: str, folder: Path, session: int) -> str:
    """The line of the owner, once its server answers or cannot be had."""
    log = folder / f"{kind}.owner.log"
    with log.open("ab") as errors:
        output = subprocess.run(
            [sys.executable, "-m", "tests.servers", kind, str(session)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=Path(__file__).parents[2],
            timeout=_LONGEST_START,
            check=False,
        ).stdout
    missing = f"The {kind} server did not start:\n{log.read_text()[-2000:]}"
    return output.decode() or json.dumps({"missing": missing})


def keep(kind: str, session: int) -> None:
    """Body of `python -m tests.servers`: go to the background, return when the server answers."""
    readable, writable = os.pipe()
    if os.fork():
        os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            sys.stdout.buffer.write(pipe.read())
        return
    os.setsid()
    os.close(readable)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGTERM, _leave)
    server = KINDS[kind]()
    try:
        started = _start(server)
        with os.fdopen(writable, "w") as pipe:
            json.dump(started, pipe)
        if "url" in started:
            _wait_for_end(session, None)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.stop()


def _start(server: Server) -> dict[str, object]:
    try:
        server.start()
    except ServerMissing as missing:
        return {"missing": str(missing)}
    return {"url": server.url, "owner": os.getpid()}


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _wait_for_end(pid: int, seconds: float | None) -> None:
    """Wait until the process with this pid is gone."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([watch], [], [], seconds)
    finally:
        os.close(watch)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
