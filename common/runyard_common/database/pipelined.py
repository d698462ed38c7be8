"""SQLAlchemy's dialects for the transactions of PostgreSQL, which wait for answers only where one is needed.

What needs no answer (BEGIN, an INSERT, rows for one statement, what is executed with `engine.LATER`) is sent and
answered together with the next statement that does, at the latest with COMMIT, in libpq's pipeline mode. An error
of such a statement is raised by the statement that waits; nothing of the transaction is committed then. Within a
savepoint each statement waits for its own answer, so that an error belongs to its savepoint.

psycopg's own BEGIN waits, and so does the end of its pipeline. So its connections are in autocommit, stay in the
pipeline mode, and BEGIN and COMMIT are statements like others. Its pipeline sends each statement by itself, which costs
both sides a system call and wakes the server each time; `_Pipeline` collects them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, Final

import psycopg
from psycopg.abc import PQGen
from psycopg.generators import send
from psycopg.pq import TransactionStatus
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::double precision"
WRITES: Final = "postgresql+pipelined"
READS: Final = "postgresql+pipelined_reads"


class _Pipeline(psycopg.Pipeline):
    """Statements stay in libpq's buffer (which sends every 64 KiB by itself) until an answer is waited for."""

    _conn: PipelinedConnection

    def _communicate_gen(self) -> PQGen[None]:
        while self.command_queue:
            self.command_queue.popleft()()
        if self._conn.is_waiting:
            yield from send(self.pgconn)


class Transaction:
    """What is open on one connection."""

    def __init__(self, connection: PipelinedConnection) -> None:
        self._connection = connection
        self._mode = ExitStack()
        connection._pipeline = _Pipeline(connection)
        self._pipeline = self._mode.enter_context(connection.pipeline())
        # One for each, as a cursor that executes the same statement again has less to do.
        self._begin, self._clock, self._commit = (connection.cursor() for _ in range(3))
        self._open = False
        self._savepoints = 0

    def begin(self, *, ask_clock: bool) -> None:
        """Send BEGIN, and ask what time it is."""
        self._begin.execute("BEGIN")
        if ask_clock:
            self._clock.execute(_CLOCK)
        self._time: float | None = None
        self._open = True
        self._savepoints = 0

    @property
    def clock(self) -> float | None:
        """The database's time when it began, in seconds since the epoch, once the answer is there."""
        if self._time is None and self._clock.pgresult is not None and (row := self._clock.fetchone()):
            self._time = float(row[0])
        return self._time

    def wait(self) -> None:
        """Wait for the answers to all that was sent."""
        with self.sending():
            self._connection.is_waiting = True
            try:
                self._pipeline.sync()
            finally:
                self._connection.is_waiting = False

    @contextmanager
    def sending(self) -> Iterator[None]:
        """After an error, which any exchange may bring, take the answers to what was sent behind it: failures, too."""
        try:
            yield
        except psycopg.Error:
            with suppress(psycopg.Error):
                self._pipeline.sync()
            raise

    def answered(self, later: bool) -> None:
        """Called after each statement; waits for the answers to all that was sent unless this one's is wanted later."""
        if not later or self._savepoints or not self._open:
            self.wait()

    def commit(self) -> None:
        """Send COMMIT; wait for all answers."""
        if self._open:
            with self.sending():
                self._commit.execute("COMMIT")
            self.wait()
            self._open = False

    def end(self) -> None:
        """Send COMMIT for what has only read: its answer comes with the next transaction's."""
        if self._open:
            self._commit.execute("COMMIT")
            self._connection.wait(send(self._connection.pgconn))
            self._open = False

    def rollback(self) -> None:
        """Undo what is open, if anything is."""
        if not self._open:
            return
        self._open = False
        try:
            self.wait()
        except psycopg.Error:
            pass  # the transaction's error, which was raised before or is of no interest
        if self._connection.info.transaction_status != TransactionStatus.IDLE:
            self._connection.execute("ROLLBACK")
            self.wait()
        self._forget_prepared()

    def _forget_prepared(self) -> None:
        """What was to be prepared behind an error was not, but psycopg goes by what was sent: as its own rollback does,
        let both sides begin with none."""
        prepared = self._connection._prepared
        prepared.clear()
        self._connection.wait(prepared.maintain_gen(self._connection))
        self.wait()

    def close(self) -> None:
        """Forget the pipeline of a connection that was closed."""
        with suppress(psycopg.Error):
            self._mode.close()

    def savepoint(self, change: int) -> None:
        """Count savepoints."""
        self._savepoints = max(0, self._savepoints + change)


class PipelinedConnection(psycopg.Connection[Any]):
    """A connection that may have a pipelined transaction."""

    transaction_under_way: Transaction | None = None
    is_waiting = False  # for answers; a statement of a pipeline is only sent

    def close(self) -> None:
        """Close the connection, without a word to a server that may not answer."""
        self.pgconn.finish()
        if self.transaction_under_way is not None:
            self.transaction_under_way.close()
        super().close()

    @property
    def pipelined(self) -> Transaction:
        """Its transaction, in pipeline mode from here on."""
        if self.transaction_under_way is None:
            self.transaction_under_way = Transaction(self)
        return self.transaction_under_way


class Dialect(PGDialect_psycopg):
    """psycopg's, for an engine in AUTOCOMMIT whose connections are `PipelinedConnection`s."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        """Called at the begin of a transaction."""
        dbapi_connection.driver_connection.pipelined.begin(ask_clock=True)

    def do_commit(self, dbapi_connection: Any) -> None:
        """Called at its end."""
        dbapi_connection.driver_connection.pipelined.commit()

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Called after an error, and when a connection is given back."""
        transaction = dbapi_connection.driver_connection.transaction_under_way
        if transaction is not None:
            transaction.rollback()

    def do_savepoint(self, connection: Any, name: Any) -> None:
        """Called at the begin of a savepoint."""
        connection.connection.driver_connection.pipelined.savepoint(+1)
        super().do_savepoint(connection, name)  # type: ignore[no-untyped-call]

    def do_release_savepoint(self, connection: Any, name: Any) -> None:
        """Called at its end."""
        super().do_release_savepoint(connection, name)  # type: ignore[no-untyped-call]
        connection.connection.driver_connection.pipelined.savepoint(-1)

    def do_rollback_to_savepoint(self, connection: Any, name: Any) -> None:
        """Called after an error in it."""
        super().do_rollback_to_savepoint(connection, name)  # type: ignore[no-untyped-call]
        connection.connection.driver_connection.pipelined.savepoint(-1)

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        """Called for a statement."""
        with _sending(cursor):
            cursor.execute(statement, parameters)
        self._answered(cursor, context is not None and _needs_no_answer(context))

    def do_execute_no_params(self, cursor: Any, statement: Any, context: Any = None) -> None:
        """Called for a statement without parameters."""
        self.do_execute(cursor, statement, None, context)

    def do_executemany(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        """Called for a statement with rows: nothing reads how many of them were found."""
        with _sending(cursor):
            cursor.executemany(statement, parameters)
        self._answered(cursor, True)

    def _answered(self, cursor: Any, later: bool) -> None:
        transaction = cursor.connection.transaction_under_way
        if transaction is not None:
            transaction.answered(later)


class ReadDialect(Dialect):
    """For transactions that only read: the end of one is not waited for."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        """Called at the begin of a transaction."""
        dbapi_connection.driver_connection.pipelined.begin(ask_clock=False)

    def do_commit(self, dbapi_connection: Any) -> None:
        """Called at its end."""
        dbapi_connection.driver_connection.pipelined.end()


def _sending(cursor: Any) -> AbstractContextManager[None]:
    transaction = cursor.connection.transaction_under_way
    return nullcontext() if transaction is None else transaction.sending()


def _needs_no_answer(context: Any) -> bool:
    if context.execution_options.get("later"):
        return True
    return bool(context.isinsert and not context.compiled.effective_returning)


registry.register("postgresql.pipelined", __name__, "Dialect")
registry.register("postgresql.pipelined_reads", __name__, "ReadDialect")
