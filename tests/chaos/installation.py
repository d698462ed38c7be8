"""The installation a storm strikes: real servers and processes on loopback, started again when they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from runyard_common.database.engine import Database
from runyard_common.settings import Settings
from tests.chaos.clocks import Clocks
from tests.chaos.disk import SmallDisk
from tests.chaos.evidence import Exit
from tests.chaos.ledger import VARIABLE, Ledger
from tests.chaos.memory import MemoryLimits
from tests.chaos.pgbouncer import PgBouncer
from tests.servers import Postgres, RabbitMQ, RedisServer, fresh_database
from tests.stack import Stack

S = TypeVar("S", Postgres, RabbitMQ, PgBouncer)
AGENTS = ("tests.chaos.agents", "tests.chaos.poison")


@dataclass(frozen=True)
class Shape:
    """What is installed. `lease` is in seconds, `memory` the bytes each worker may use (0: no bound)."""

    database: str = "postgres"  # postgres, sqlite
    broker: str = "valkey"  # valkey, redis, rabbitmq
    workers: int = 2
    apis: int = 2
    schedulers: int = 2
    concurrency: int = 60
    lease: float = 10.0
    pooler: bool = False
    clocks: bool = False
    small_disk: bool = False
    memory: int = 0
    forgets: bool = False  # on request the database loses its latest commits when it crashes


class Processes(Stack):
    """Runyard's processes: how each ended, and a supervisor that starts them again."""

    def __init__(
        self, folder: Path, clocks: Clocks | None, memory: MemoryLimits | None, **given: object
    ) -> None:
        super().__init__(folder, **given)  # type: ignore[arg-type]
        self.clocks = clocks
        self.memory = memory
        self.exits: list[Exit] = []
        self._leaving: dict[str, float] = {}  # name -> when it got its SIGTERM, monotonic

    def start(self, name: str) -> None:
        """Start (again) one process, with a clock of its own and bounded memory where that is asked for."""
        plain = self.env
        if self.clocks is not None:
            self.env = plain | self.clocks.environment(name)
        try:
            super().start(name)
        finally:
            self.env = plain
        if self.memory is not None and name.startswith("worker"):
            self.memory.bound(self.processes[name].pid)

    def alive(self, kind: str = "") -> list[str]:
        """Names of the processes of a kind that run and were not asked to leave."""
        return [
            name
            for name, running in self.processes.items()
            if name.startswith(kind) and running.poll() is None and name not in self._leaving
        ]

    def end_by_kill(self, name: str) -> None:
        """SIGKILL, and a new life."""
        self.kill(name)
        self._ended(name, "killed")

    def ask_to_leave(self, name: str) -> None:
        """SIGTERM; `supervise` sees it off."""
        self._leaving[name] = time.monotonic()
        self.processes[name].terminate()

    def supervise(self) -> None:
        """Start again what has ended; kill what does not leave within its grace period and a margin."""
        for name, running in list(self.processes.items()):
            if running.poll() is not None:
                self._ended(name, "ordered" if name in self._leaving else "itself")
            elif name in self._leaving and time.monotonic() - self._leaving[name] > 45:
                running.kill()
                running.wait()
                self._ended(name, "ordered")

    def _ended(self, name: str, how: str) -> None:
        asked = self._leaving.pop(name, None)
        seconds = time.monotonic() - asked if asked is not None else 0.0
        running = self.processes[name]
        self.exits.append(Exit(name, running.returncode, how, seconds, running.pid))
        self.start(name)


@dataclass
class Installation:
    """Everything that can be struck. `url` leads to the database itself, whichever pooler the processes use."""

    shape: Shape
    processes: Processes
    ledger: Ledger
    url: str
    postgres: Postgres | None = None
    rabbit: RabbitMQ | None = None
    disk: SmallDisk | None = None
    struck: dict[str, float] = field(default_factory=dict)

    @property
    def driver_url(self) -> str:
        """The database's URL as SQLAlchemy takes it."""
        return self.url.replace("postgresql://", "postgresql+psycopg://", 1)

    def note_struck(self, pid: int) -> None:
        """Remember under which id the worker process about to be hit is known, and when."""
        query = f"SELECT id FROM workers WHERE pid = {int(pid)}"
        self.struck |= dict.fromkeys((str(row[0]) for row in self.rows(query)), time.time())

    def forget_commits(self) -> None:
        """From now on a crash of PostgreSQL loses what it committed within the last half second or so."""
        for command in ("ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()"):
            assert self.postgres is not None
            with psycopg.connect(self.postgres.url, autocommit=True) as connection:
                connection.execute(command)
        time.sleep(1.0)  # what was committed before is on disk

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Ask the database beside all pools; nothing while it is away."""
        db = Database(self.driver_url, pool_size=1)
        try:
            # A look must not wait for a writer: on SQLite that may be the storm itself.
            with db.read() if query.startswith("SELECT") else db.begin() as connection:
                result = connection.execute(text(query))
                return [tuple(row) for row in result] if result.returns_rows else []
        except DBAPIError:
            return []
        finally:
            db.close()


@contextmanager
def installed(shape: Shape, folder: Path) -> Iterator[Installation]:
    """Start it all in `folder`; stopped and removed at the end."""
    with ExitStack() as undo:
        disk = undo.enter_context(SmallDisk.mounted(folder / "disk")) if shape.small_disk else None
        home = disk.folder if disk else folder / "site"
        home.mkdir(exist_ok=True)
        postgres = undo.enter_context(_started(Postgres())) if shape.database == "postgres" else None
        rabbit = undo.enter_context(_started(RabbitMQ())) if shape.broker == "rabbitmq" else None
        url = fresh_database(postgres.url) if postgres else f"sqlite:///{home / 'runyard.db'}"
        env = {
            VARIABLE: str(folder / "ledger"),
            "RUNYARD_WORKER_CONCURRENCY": str(shape.concurrency),
            "RUNYARD_LEASE_SECONDS": str(shape.lease),
        }
        through = url
        if shape.pooler and postgres is not None:
            through = undo.enter_context(_started(PgBouncer(url))).url
            if "database_pooler" in Settings.model_fields:
                env["RUNYARD_DATABASE_POOLER"] = "transaction"
        clocks = Clocks(folder / "clocks") if shape.clocks else None
        memory = undo.enter_context(MemoryLimits.of(shape.memory)) if shape.memory else None
        processes = Processes(
            home, clocks, memory, database_url=url, broker_url=rabbit.url if rabbit else "", agents=AGENTS,
            api=shape.apis, workers=shape.workers, schedulers=shape.schedulers, **env,
        )  # fmt: skip
        if shape.broker == "redis":
            processes.valkey = RedisServer(processes.valkey.folder)
        undo.enter_context(_running(processes, through))
        yield Installation(shape, processes, Ledger(folder / "ledger"), url, postgres, rabbit, disk)


@contextmanager
def _started(server: S) -> Iterator[S]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _running(processes: Processes, through: str) -> Iterator[None]:
    """The processes reach their database by the URL `through`; migrations go straight to it."""
    migrate = processes._migrate

    def straight() -> None:
        migrate()
        processes.env["RUNYARD_DATABASE_URL"] = through

    processes._migrate = straight  # type: ignore[method-assign]
    try:
        with processes:
            yield
    finally:
        for running in processes.processes.values():
            if running.poll() is None:
                running.kill()


def keep_logs(processes: Processes) -> Path:
    """Copy the processes' logs out of their temporary folder; where to."""
    kept = Path(tempfile.mkdtemp(prefix="runyard-chaos-logs-"))
    shutil.copytree(processes.logs, kept, dirs_exist_ok=True)
    return kept


def resume(process: subprocess.Popen[bytes]) -> None:
    """SIGCONT, if it is still there."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGCONT)
