"""The database connection: engine set-up for SQLite and PostgreSQL, transactions, and the database's clock."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from runyard_common.clock import AskedClock, DatabaseClock, KnownClock, TransactionClock, elapsed
from runyard_common.database import postgres_urls
from runyard_common.database.columns import dump
from runyard_common.database.config_memory import ConfigMemory
from runyard_common.database.write_lock import FairWriteLock
from runyard_common.tables import metadata

if TYPE_CHECKING:
    from runyard_common.database.postgres import Answers

__all__ = ["Database", "Durability", "metadata"]


#: Execution option of a statement whose answer nothing waits for: no row and no row count of it are read. On PostgreSQL
#: it goes out with what follows it in the write transaction, and its error is raised there, at the latest by COMMIT.
LATER: Final = {"later": True}
#: What a transaction needs at least on the disk: some pages of the database and their journal.
_PROBE_BYTES = 256 * 1024
#: How long a lock of SQLite is waited for, and the pause between two attempts at its log's mode, in seconds.
_LOCK_WAIT, _LOCK_PAUSE = 30.0, 0.01
#: SQLite's `synchronous` for a commit that must survive a power cut, and for one that need not.
_SYNCHRONOUS: Final = {True: "FULL", False: "NORMAL"}
_DISPOSABLE: Final = {True: "OFF", False: "OFF"}


class Durability(IntEnum):
    """What a commit must survive once it is answered. More costs a wait for the disk."""

    #: The end of this process. PostgreSQL loses the last ~0.6 s of such commits with any crash of its own, be it
    #: one killed backend, and with a failover; SQLite with the host's power only. For heartbeats and the like.
    NONE = 0
    #: Also the end of the database's processes, which may leave this one alive. SQLite has none: it is as `NONE`
    #: there. For claims: what one brought is executed, and may not be given to another afterwards.
    PROCESS = 1
    #: Also a power cut, as far as the disk and the database's own settings keep their word.
    DISK = 2


class Database:
    """One engine. Every method is synchronous and may be called from any thread."""

    def __init__(
        self,
        url: str,
        pool_size: int = 10,
        limits: dict[str, int] | None = None,
        *,
        disposable: bool = False,
    ) -> None:
        """`limits` are PostgreSQL's server-side limits in milliseconds (default `postgres_urls.LIMITS`).

        `disposable`: the file of SQLite is deleted when this process has done with it, so no commit waits for the disk.
        """
        self.url = url
        self.clock = DatabaseClock()  # fed by `now`
        self.memory = ConfigMemory()
        parsed = make_url(url)
        self.is_postgres = parsed.get_backend_name() == "postgresql"
        self.limits = postgres_urls.LIMITS if limits is None else limits
        #: Whether a pooler in transaction mode is in front of the database: sessions are shared.
        self.is_pooled = self.is_postgres and postgres_urls.pooled(parsed)
        self._answers: Answers | None = None
        if self.is_postgres:
            from runyard_common.database import pipelined, postgres

            self._answers = postgres.Answers()
            given = (parsed, pool_size, self._answers, self.limits)
            self.engine = postgres.engine(*given)
            self._read_engine = postgres.engine(*given, pipelined.READS)
            self._writing = postgres.engine(*given, pipelined.WRITES)
        else:
            self._levels = _DISPOSABLE if disposable else _SYNCHRONOUS
            self.engine = self._read_engine = _sqlite(url, self._levels[True])
            self._writing = self.engine.execution_options(sqlite_begin="IMMEDIATE")
        path = None if self.is_postgres else make_url(url).database
        self._file = Path(path) if path and path != ":memory:" else None
        self._write_lock = FairWriteLock(path) if path and path != ":memory:" else None

    def own_connection(self) -> OwnConnection | None:
        """A connection for one thread's write transactions; None on PostgreSQL, whose pool also finds lost ones."""
        return None if self.is_postgres else OwnConnection(self._writing)

    @contextmanager
    def begin(
        self, durability: Durability = Durability.DISK, own: OwnConnection | None = None
    ) -> Iterator[Connection]:
        """A write transaction: committed at the end of the block, rolled back when it raises.

        On the caller's `own` connection, or one of the pool.
        """
        with self._writing.connect() if own is None else own.use() as connection:
            if not self.is_postgres:
                _synchronous(connection, self._levels[durability is Durability.DISK])
            with self._write_lock.hold() if self._write_lock else nullcontext(), connection.begin():
                self.set_limits(connection)
                if self.is_postgres and durability is Durability.NONE:
                    connection.execute(_RELAXED, execution_options=LATER)
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading one consistent snapshot."""
        with self._read_engine.connect() as connection, connection.begin():
            self.set_limits(connection)
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A connection that sees one instant for as long as it is open, be it hours: for copies, beside which all work.

        On PostgreSQL nothing that is deleted meanwhile is vacuumed, and on SQLite the write-ahead log grows.
        """
        if not self.is_postgres:
            with self.read() as connection:
                yield connection
            return
        with self.engine.connect() as opened:
            connection = opened.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
                yield connection

    @property
    def silent(self) -> bool:
        """Whether the server has stopped answering: neither an answer nor a refusal comes from it."""
        return self._answers is not None and self._answers.silent

    def clock_of(self, connection: Connection) -> TransactionClock:
        """The clock of a write transaction that has just begun on this connection."""
        if not self.is_postgres:
            return KnownClock(time.time())
        driver: Any = connection.connection.driver_connection
        # Waited for through SQLAlchemy, so that an error is raised as that of any statement is.
        return AskedClock(self.clock, driver.pipelined, partial(connection.exec_driver_sql, "SELECT 1"))

    def now(self, connection: Connection) -> float:
        """The database's clock, in seconds since the epoch.

        SQLite runs inside this host, so its clock is this host's clock.
        """
        asked = elapsed()
        now = float(connection.execute(_CLOCK).scalar_one()) if self.is_postgres else time.time()
        self.clock.observe(now, elapsed() - asked)
        return now

    def check_disk(self) -> None:
        """Whether the disk of an embedded database takes a write: a small file beside it, which goes at once.

        Raises OSError. Reads go on working on a full disk, so they show nothing.
        """
        if self._file is None:
            return
        with tempfile.TemporaryFile(dir=self._file.parent) as probe:
            probe.write(b"\0" * _PROBE_BYTES)
            probe.flush()
            os.fsync(probe.fileno())

    def empty_log(self) -> None:
        """Bring SQLite's write-ahead log into its file and cut it off, unless another process reads it just now."""
        if not self.is_postgres:
            with closing(self._writing.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def shares_sessions(self) -> bool:
        """Whether a pooler is in front of PostgreSQL: the process that answers is not the one that was greeted."""
        if not self.is_postgres:
            return False
        with self.engine.connect() as connection:
            answering = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            driver: Any = connection.connection.driver_connection
            return bool(answering != driver.info.backend_pid)

    def set_limits(self, connection: Connection) -> None:
        """Behind a pooler in transaction mode the limits are set in each transaction."""
        if self.is_pooled:
            settings = ", ".join(f"set_config('{n}', '{v}', true)" for n, v in self.limits.items())
            connection.exec_driver_sql(f"SELECT {settings}", execution_options=LATER)

    def close(self) -> None:
        """Close every pooled connection."""
        for engine in {self.engine, self._read_engine, self._writing}:
            engine.dispose()


class OwnConnection:
    """A connection that one thread owns: its statements stay prepared, and its cache has the pages that it wrote.

    The pool gives others in turn, which know neither. After an error it is given back, to be reset or replaced.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """The connection, opened where there is none."""
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give it back to the pool. The next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


_RELAXED = text("SET LOCAL synchronous_commit = off")


def _synchronous(connection: Connection, level: str) -> None:
    if connection.info.get("synchronous") != level:
        connection.connection.cursor().execute(f"PRAGMA synchronous={level}")
        connection.info["synchronous"] = level


_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())::double precision")


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Turn the write-ahead log on, which the file remembers.

    Where several processes open a new file at once, SQLite refuses the switch at once to those that come second: it
    has read by then, and its busy timeout counts for locks that are asked for before a read alone.
    """
    until = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # The low byte is the primary code, the others say more.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_LOCK_PAUSE)


def _sqlite(url: str, synchronous: str) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": _LOCK_WAIT, "check_same_thread": False}, json_serializer=dump
    )

    @event.listens_for(engine, "connect")
    def _configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = dbapi_connection.cursor()
        _write_ahead(cursor)
        cursor.execute(
            f"PRAGMA synchronous={synchronous}"
        )  # FULL: a 2xx means stored, also across a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-32000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        begin = f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'DEFERRED')}"
        driver: Any = connection.connection.driver_connection
        try:  # by the driver, which takes a tenth of the time that SQLAlchemy takes for a statement
            driver.execute(begin)
        except sqlite3.Error as error:
            raise DBAPIError.instance(
                begin, None, error, sqlite3.Error, dialect=connection.dialect
            ) from error

    return engine
