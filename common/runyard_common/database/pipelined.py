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

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, Final

import psycopg
import sqlalchemy
from psycopg._preparing import PrepareManager
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.generators import send
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from runyard_common.database.prepared import Form, Values

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

    def _process_results(self, queued: Any, results: list[PGresult]) -> None:
        if not isinstance(queued, Answer):
            super()._process_results(queued, results)
        elif results[-1].status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(results[-1], encoding=self.pgconn._encoding)
        elif results[-1].status == ExecStatus.PIPELINE_ABORTED:
            raise psycopg.errors.PipelineAborted("pipeline aborted")
        else:
            queued.result = results[-1]


class Answer:
    """The answer to a statement that was sent, once it is there."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: PGresult | None = None


class _Prepared(PrepareManager):
    """What is prepared on a connection: by psycopg, which counts executions, and statements that are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[Form, Any] = {}

    def clear(self) -> bool:
        """Forget all, on the server's side too, before the next statement."""
        if self.kept:
            self.kept.clear()
            self._names[_ANY] = b""  # so that it is not left out
        return super().clear()


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
    _failure: psycopg.Error | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._prepared: _Prepared = _Prepared()

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

    def rows_of(self, conn: sqlalchemy.Connection, form: Form, rows: Sequence[Values]) -> list[Any]:
        """Execute a statement that is kept for each of these rows, and wait for the rows that it gives."""
        results = [answer.result for answer in self._sent(conn, form, rows, False)]
        kept = self._prepared.kept
        loading = kept.get(form)
        found: list[Any] = []
        for result in results:
            assert result is not None
            is_first = loading is None
            loading = loading or Transformer(self)
            loading.set_pgresult(result, set_loaders=is_first)
            found += loading.load_rows(0, result.ntuples, form.row)
        if form in kept:
            kept[form] = loading
        return found

    def send(self, conn: sqlalchemy.Connection, form: Form, rows: Sequence[Values]) -> None:
        """Execute a statement that is kept for each of these rows, and wait for nothing."""
        self._sent(conn, form, rows, True)

    def _sent(
        self, conn: sqlalchemy.Connection, form: Form, rows: Sequence[Values], later: bool
    ) -> list[Answer]:
        transaction = self.pipelined
        try:
            with transaction.sending():
                answers = [self._queue(form, [_as_text(v) for v in form.parameters(one)]) for one in rows]
            transaction.answered(later)
        except psycopg.Error as error:
            self._prepared.clear()  # the server may not have what was sent about it
            # So that SQLAlchemy makes of it what it makes of any statement's error, the connection's state included.
            self._failure = error
            conn.exec_driver_sql(form.text.replace("%", "%%"))
            raise AssertionError("the error was raised") from error
        return answers

    def _queue(self, form: Form, parameters: list[bytes | None]) -> Answer:
        prepared, pipeline, answer = self._prepared, self._pipeline, Answer()
        assert pipeline is not None
        if prepared._to_flush:
            self.wait(prepared.maintain_gen(self))
        if pipeline.command_queue:
            self.wait(pipeline._communicate_gen())
        if prepared.prepare_threshold is None:  # sessions are shared
            self.pgconn.send_query_params(form.query, parameters)
        else:
            if form not in prepared.kept:
                self.pgconn.send_prepare(form.name, form.query)
                pipeline.result_queue.append(None)
                prepared.kept[form] = None
            self.pgconn.send_query_prepared(form.name, parameters)
        pipeline.result_queue.append(answer)  # type: ignore[arg-type]
        return answer

    def raise_failure(self) -> None:
        """Raise the error of a statement that was sent past SQLAlchemy, if there is one."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


_ANY: Final = (b"", ())


def _as_text(value: Any) -> bytes | None:
    """A parameter as PostgreSQL reads it. Raises psycopg's DataError for text with NUL, which it cannot have."""
    dump = _TEXTS.get(type(value))
    if dump is None:
        dump = next(_TEXTS[kind] for kind in type(value).__mro__ if kind in _TEXTS)
    return dump(value)


def _text(value: str) -> bytes:
    encoded = value.encode()
    if b"\0" in encoded:
        raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return encoded


def _array(values: Sequence[Any]) -> bytes:
    texts = [_as_text(value) for value in values]
    quoted = (
        b"NULL" if t is None else b'"' + t.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"' for t in texts
    )
    return b"{" + b",".join(quoted) + b"}"


_TEXTS: Final[dict[type, Callable[[Any], bytes | None]]] = {
    str: _text,
    type(None): lambda value: None,
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: b"%d" % value,
    float: lambda value: repr(float(value)).encode(),
    bytes: lambda value: b"\\x" + value.hex().encode(),
    list: _array,
}


class Dialect(PGDialect_psycopg):
    """psycopg's, for an engine in AUTOCOMMIT whose connections are `PipelinedConnection`s."""

    supports_statement_cache = True
    is_pipelined = True

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
        cursor.connection.raise_failure()
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
