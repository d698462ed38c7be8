"""PostgreSQL: how its connections are opened, limited and given up when the server stops answering.

A host that vanishes sends no reset, and a frozen server process keeps its sockets open. A client that only
reads would wait for either without end. Keep-alives and `tcp_user_timeout` find the first. For the second, a
connection that has heard nothing for `SILENCE` seconds asks the server over another connection, and is closed
unless that one is answered: a long statement goes on, a dead server costs seconds.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final

import psycopg
import structlog
from psycopg.abc import RV, PQGen
from sqlalchemy import URL, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from runyard_common.database import pipelined
from runyard_common.database.columns import dump
from runyard_common.database.outages import moved
from runyard_common.database.postgres_urls import LIMITS, OURS, pooled
from runyard_common.values.errors import ConfigurationError

logger = structlog.get_logger("runyard.database")

#: How long a server may leave a statement unanswered before it is asked whether it still lives, in seconds.
SILENCE: Final = 3.0
#: How long the question may take, and how long its answer counts, in seconds.
PROBE_SECONDS: Final = 2
#: How long a caller waits for a free connection of the pool, in seconds.
POOL_SECONDS: Final = 10.0

#: What finds a vanished host: idle connections by keep-alives, busy ones by unacknowledged data (milliseconds).
_TCP: Final = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_REFUSED: Final = "unsupported startup parameter"


def engine(
    url: URL,
    pool_size: int,
    answers: Answers,
    limits: dict[str, int] | None = None,
    driver: str | None = None,
) -> Engine:
    """An engine for this URL. Parameters in the URL win over ours. `driver` is one of `pipelined`.

    `limits` are server-side limits in milliseconds (default `LIMITS`). Behind a pooler in transaction mode
    nothing is set at the start of a session, which is shared, and no statement is prepared: `Database` sets
    the limits in each transaction.
    """
    arguments: dict[str, Any] = {"application_name": "runyard", **_TCP}
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    if pooled(url):
        arguments["prepare_threshold"] = None
    else:
        given = url.query.get("options", "")
        own = " ".join(f"-c {name}={value}" for name, value in (LIMITS if limits is None else limits).items())
        arguments["options"] = f"{own} {given}".strip()
    url = url.difference_update_query(OURS)
    made = create_engine(
        url.set(drivername=driver) if driver else url,
        isolation_level="AUTOCOMMIT" if driver else None,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=POOL_SECONDS,
        pool_recycle=1800,
        pool_use_lifo=True,  # the connection with the most statements prepared
        json_serializer=dump,
        connect_args=arguments,
    )
    event.listen(made, "do_connect", answers.connect)
    event.listen(made, "checkout", _leave_lost)
    event.listen(made, "handle_error", _leave_old_primary)
    return made


def _leave_old_primary(context: ExceptionContext) -> None:
    """A server that became a standby keeps its connections: drop them, the next ones find the primary."""
    if moved(context.original_exception):
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = True


def _leave_lost(connection: Any, _record: Any, _fairy: Any) -> None:
    """A server that ended has closed its connections, which shows without asking it: open others.

    Raises `InvalidatePoolError`, which makes the pool do so.
    """
    try:
        while _readable(connection.fileno()):
            connection.pgconn.consume_input()  # a notice, or the server's last words
    except psycopg.OperationalError as lost:
        raise InvalidatePoolError("the server has closed the connection") from lost


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Answers:
    """Whether one server answers, as all connections of one `Database` find it. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = -float(PROBE_SECONDS)
        self._parameters: dict[str, Any] = {}
        self._own_backends = True
        #: True from the moment the server was found silent until it answers again.
        self.silent = False

    def connect(self, _dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
        """Open a connection (SQLAlchemy's `do_connect`).

        Raises `ConfigurationError` when a pooler refuses the startup parameters.
        """
        self._own_backends = "options" in parameters
        self._parameters = {name: v for name, v in parameters.items() if name not in ("options", "context")}
        try:
            connection = _Connection.connect(*arguments, **parameters)
        except psycopg.OperationalError as error:
            if _REFUSED in str(error):
                raise ConfigurationError(
                    "The database URL leads to a connection pooler that refuses startup parameters. "
                    "Set RUNYARD_DATABASE_POOLER=transaction, or connect to PostgreSQL itself.",
                    field="RUNYARD_DATABASE_POOLER",
                ) from None
            if isinstance(error, psycopg.errors.ConnectionTimeout):
                self.silent = True
            raise
        connection.answers = self
        self.silent = False
        return connection

    def ask(self, backend: int) -> bool:
        """Whether the server answers and still has this backend; asks at most once in `PROBE_SECONDS`."""
        with self._lock:
            if time.monotonic() - self._asked_at < PROBE_SECONDS:
                return not self.silent
            alive = self._probe(backend)
            if self.silent == alive:
                logger.warning(
                    "The database answers again." if alive else "The database does not answer.",
                    action="database",
                )
            self.silent = not alive
            self._asked_at = time.monotonic()
            return alive

    def _probe(self, backend: int) -> bool:
        parameters = self._parameters | {"connect_timeout": PROBE_SECONDS, "autocommit": True}
        try:
            with _Probe.connect(**parameters) as connection:
                if not self._own_backends:  # a pooler hands out numbers of its own
                    return connection.execute("SELECT 1").rowcount == 1
                return connection.execute(_BACKEND, (backend,)).rowcount == 1
        except psycopg.errors._WaitTimeout:
            return False
        except psycopg.Error as error:
            # A refusal in words (too many clients, starting up) is an answer; a lost connection is none.
            return error.sqlstate is not None


_BACKEND: Final = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"


class _Probe(psycopg.Connection[Any]):
    """A connection whose every exchange ends in time."""

    def wait(self, gen: PQGen[RV], *_arguments: Any, **_options: Any) -> RV:
        """Run a protocol exchange; raises psycopg's `_WaitTimeout`."""
        return super().wait(gen, timeout=PROBE_SECONDS)


class _Connection(pipelined.PipelinedConnection):
    """A connection that does not wait for a server which has stopped answering."""

    answers: Answers | None = None

    def __del__(self, *_: Any) -> None:
        # SQLAlchemy drops a connection unclosed if the server dies in its first look at it: no news, and no leak.
        if hasattr(self, "pgconn"):
            self.pgconn.finish()

    def wait(self, gen: PQGen[RV], *arguments: Any, **options: Any) -> RV:
        """Run a protocol exchange (psycopg's own hook)."""
        only_sent = self.transaction_under_way is not None and not self.is_waiting
        if self.answers is None or only_sent or options.get("timeout") is not None:
            return super().wait(gen, *arguments, **options)
        return super().wait(_watched(gen, self._check), *arguments, **options)

    def _check(self) -> None:
        answers = self.answers
        if answers is None or answers.ask(self.pgconn.backend_pid):
            return
        self.pgconn.finish()
        raise psycopg.OperationalError("the server has stopped answering; the connection was given up")


def _watched(gen: PQGen[RV], check: Callable[[], None]) -> Generator[Any, Any, RV]:
    """The same exchange; `check` is called whenever nothing was heard for `SILENCE` seconds, and may raise."""
    heard_at = 0.0
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready or not heard_at:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > SILENCE:
                check()
                heard_at = time.monotonic()
            wanted = gen.send(ready)
    except StopIteration as done:
        result: RV = done.value
        return result
